"""Attempts of the simulated robot, and where they leave its hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from protocol.episode import Episode, Mode, PolicyIdentity
from protocol.release import RANDOM_POLICY_DIGEST
from robot_agent.policy.q_function import QFunction
from robot_agent.robots.simulated.gantry import PARK_POSITION
from tests.robot_agent.hill_release import hill_q_function
from tests.robot_agent.simulated_agent import Site, make_site

RANDOM = PolicyIdentity(release_version=0, digest=RANDOM_POLICY_DIGEST)


def attempt(
    site: Site, mode: Mode = Mode.RANDOM, q_function: QFunction | None = None, max_moves: int = 4
) -> Episode:
    policy = q_function.policy if q_function else RANDOM
    return site.loop.run_attempt(mode, q_function, max_moves=max_moves, policy=policy)


def attempts_of_every_mode(folder: Path) -> list[Episode]:
    """Make many attempts with one robot: most at random, some with a network."""
    site = make_site(folder, {"seed": 2})
    q_function = hill_q_function((0.3, 0.3, -0.1), calibration=site.truth)  # outside the workspace
    made = [attempt(site) for _ in range(60)]
    made += [attempt(site, mode, q_function) for mode in (Mode.EXPLORE, Mode.GREEDY) * 5]
    return made


def hand_is_parked(site: Site) -> bool:
    here = site.robot.state().pose
    return bool(np.allclose([here.x_m, here.y_m, here.z_m], PARK_POSITION[:3], atol=0.005))
