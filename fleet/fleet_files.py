"""Makes the files of a one-machine fleet: keys, registry, ``learner.toml``, ``robot.toml``."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fleet.camera_description import falsify
from fleet.enrolment import (
    RELEASE_PUBLIC,
    RELEASE_SECRET,
    SERVER_PUBLIC,
    SERVER_SECRET,
    LearnerAddress,
    enrol_robot,
    ensure_learner_keys,
)
from fleet.run_folder import RunFolder, write_atomically
from fleet.toml_text import laid_over, toml_text
from learner.config import LearnerConfig
from protocol.configuration import load_toml
from protocol.errors import ConfigurationError
from protocol.registry import Registry
from robot_agent.arms.arm_places import ARM_PLACES
from robot_agent.config import AgentConfig, CameraDescription
from robot_agent.robots.simulated import randomised_options
from robot_agent.robots.simulated.scene import WORKSPACE_M

SIMULATED_ROBOT = "robot_agent.robots.simulated:SimulatedRobot"
SIMULATED_CAMERA = "robot_agent.cameras.simulated:SimulatedCamera"

_WORKSPACE = dict(zip(("x_m", "y_m", "z_m"), map(list, WORKSPACE_M), strict=True))
_IMAGE_PX = 64
_PORTS = range(16_000, 32_768)
SESSION_SEEDS = 1_000_000
"""Distance between the scene seeds of one session and the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetPlan:
    """What ``fleet demo`` was asked for."""

    robots: int
    seed: int
    session: int = 0
    """How many sessions this folder has seen: each has scenes of its own."""
    driver: str = SIMULATED_ROBOT
    arm: str = ""
    """Of the simulated robots, one of ARM_PLACES; "" for gantries."""
    camera: str = SIMULATED_CAMERA
    learner_options: Mapping[str, Any] = field(default_factory=dict)
    """Laid over the ``learner.toml`` that is made."""


class CameraRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``camera.json``: what ``robot.toml`` says of the camera, and what is true."""

    true: CameraDescription
    described: CameraDescription


def driver_and_arm(robot: str) -> tuple[str, str]:
    """Return the driver, and the arm of simulated robots, that a person asked for.

    Args:
        robot: ``module:Class``, or the name of an arm that can be simulated.

    Raises:
        ConfigurationError: it is neither.
    """
    if robot in ARM_PLACES:
        return SIMULATED_ROBOT, robot
    if ":" not in robot:
        known = ", ".join(sorted(ARM_PLACES))
        raise ConfigurationError(
            f"--robot {robot}: expected an arm to simulate ({known}) or a driver, module:Class"
        )
    return robot, ""


def prepare_run_folder(folder: RunFolder, plan: FleetPlan) -> None:
    """Make whatever is not there yet; what an earlier session made stays as it is.

    Only the ports may change: another program may have taken the old ones.
    """
    for path in (folder.keys, folder.registry, folder.robots, folder.learner, folder.logs):
        path.mkdir(parents=True, exist_ok=True)
    ensure_learner_keys(folder.keys, Registry(folder.registry))
    gateway_port, releases_port = _ports(folder)
    address = LearnerAddress(
        keys=folder.keys,
        episodes=f"tcp://127.0.0.1:{gateway_port}",
        releases=f"tcp://127.0.0.1:{releases_port}",
    )
    _write_learner_toml(folder, plan, address)
    for index in range(plan.robots):
        _write_robot(folder, plan, index, address)


def robot_name(index: int) -> str:
    """Return the name of the fleet's robot ``index``, counted from 0."""
    return f"robot-{index + 1:02d}"


def free_ports(count: int) -> list[int]:
    """Return TCP ports that nothing listens on now, and that Linux gives to no outgoing connection.

    Raises:
        ConfigurationError: there are not so many.
    """
    free = (port for port in random.sample(_PORTS, len(_PORTS)) if is_free(port))
    found = list(itertools.islice(free, count))
    if len(found) < count:
        raise ConfigurationError(
            f"{count} free TCP ports are needed; this machine has {len(found)}"
        )
    return found


def is_free(port: int) -> bool:
    """Say whether nothing listens on a TCP port of this machine now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def learner_config(folder: RunFolder) -> LearnerConfig:
    """Read the learner's configuration of a run folder."""
    return load_toml(folder.learner_config, LearnerConfig)


def agent_config(folder: RunFolder, name: str) -> AgentConfig:
    """Read one robot's configuration of a run folder."""
    return load_toml(folder.robot_config(name), AgentConfig)


def camera_record(folder: RunFolder, name: str) -> CameraRecord | None:
    """Return the truth about a robot's camera; None where nobody knows it."""
    path = folder.robots / name / "camera.json"
    if not path.is_file():
        return None
    return msgspec.json.decode(path.read_bytes(), type=CameraRecord)


def simulated_robot_seed(seed: int, index: int) -> int:
    """Return the seed of robot ``index``: no two robots of any two small seeds share one."""
    return 1000 * seed + index


def _ports(folder: RunFolder) -> tuple[int, int]:
    """Return the ports of the last session if they are free, otherwise two that are."""
    if folder.learner_config.is_file():
        config = learner_config(folder)
        before = [
            int(bind.rpartition(":")[2]) for bind in (config.gateways[0].bind, config.releases.bind)
        ]
        if all(is_free(port) for port in before):
            return before[0], before[1]
    gateway_port, releases_port = free_ports(2)
    return gateway_port, releases_port


def _write_learner_toml(folder: RunFolder, plan: FleetPlan, address: LearnerAddress) -> None:
    table: dict[str, Any] = {
        "run_folder": "learner",
        "seed": plan.seed,
        "keys": {
            "server_secret": f"keys/{SERVER_SECRET}",
            "release_secret": f"keys/{RELEASE_SECRET}",
            "registry": "registry",
        },
        "gateway": {"bind": address.episodes, "store": "learner/episodes"},
        "releases": {"bind": address.releases, "folder": "learner/releases"},
    }
    text = toml_text(laid_over(table, plan.learner_options))
    write_atomically(folder.learner_config, text.encode())
    learner_config(folder)  # refuses an option that is wrong before anything starts


def _write_robot(folder: RunFolder, plan: FleetPlan, index: int, address: LearnerAddress) -> None:
    name = robot_name(index)
    home = folder.robots / name
    if not (home / "robot.secret").exists():
        enrol_robot(Registry(folder.registry), name, home, address)
    seed = simulated_robot_seed(plan.seed, index)
    options = randomised_options(seed, "camera-and-wear") if _is_simulated(plan) else {}
    if options:
        options["seed"] = seed + SESSION_SEEDS * plan.session
        options |= {"arm": plan.arm} if plan.arm else {}
    described = _description(home, options, seed)
    table = {
        "name": name,
        "state_folder": "state",
        "secret_key": "robot.secret",
        "seed": seed,
        "robot": {"driver": plan.driver, "options": options},
        "camera": {"driver": plan.camera, "width_px": _IMAGE_PX, "height_px": _IMAGE_PX},
        "workspace": _WORKSPACE,
        "camera_description": asdict(described),
        "learner": {
            "episodes": address.episodes,
            "releases": address.releases,
            "public_key": SERVER_PUBLIC,
            "release_key": RELEASE_PUBLIC,
        },
    }
    write_atomically(folder.robot_config(name), toml_text(table).encode())
    agent_config(folder, name)


def _is_simulated(plan: FleetPlan) -> bool:
    return plan.driver == SIMULATED_ROBOT


def _description(home: Path, options: dict[str, Any], seed: int) -> CameraDescription:
    """Return the rough description of a robot's camera, made once and then kept."""
    path = home / "camera.json"
    if path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=CameraRecord).described
    if "camera" not in options:
        raise ConfigurationError(
            f"{home}: nothing is known of this robot's camera; write {path.name} with the keys "
            "'true' and 'described' there, each with position_m, look_at_m and vertical_fov_deg"
        )
    true = CameraDescription(**options["camera"])
    record = CameraRecord(
        true=true, described=falsify(true, np.random.default_rng([seed, 104_729]))
    )
    write_atomically(path, msgspec.json.format(msgspec.json.encode(record), indent=2))
    return record.described
