"""The robot-agent as a process, and a robot.toml that is right for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from fleet.enrolment import LearnerAddress, enrol_robot
from fleet.toml_text import toml_text
from protocol.errors import ConfigurationError
from protocol.registry import Registry
from robot_agent.delivery.outbox import outbox_counts
from tests.delivery_site import ROOT
from tests.free_ports import free_port
from tests.learner_keys import create_learner_keys
from tests.robot_agent.simulated_agent import FAULTY_ROBOT, SIMULATED_CAMERA

Table = dict[str, Any]


def simulated_bin() -> Table:
    """Return a workspace in the simulated bin, and the camera as it truly looks into it."""
    return {
        "workspace": {"x_m": [-0.1, 0.1], "y_m": [-0.07, 0.07], "z_m": [0.0, 0.14]},
        "camera_description": {
            "position_m": [-0.34, -0.10, 0.46],
            "look_at_m": [0.0, 0.0, 0.028],
            "vertical_fov_deg": 31.0,
        },
    }


def make_table(folder: Path) -> Table:
    """Enrol a robot; return a robot.toml that is right, for a learner that is not there."""
    address = LearnerAddress(
        keys=folder / "keys",
        episodes=f"tcp://127.0.0.1:{free_port()}",
        releases=f"tcp://127.0.0.1:{free_port()}",
    )
    create_learner_keys(address.keys)
    (folder / "registry").mkdir()
    enrol_robot(Registry(folder / "registry"), "robot-1", folder / "robot", address)
    return {
        "name": "robot-1",
        "state_folder": "state",
        "secret_key": "robot.secret",
        "max_attempts": 1,
        "robot": {"driver": FAULTY_ROBOT, "options": {"seed": 1}},
        "camera": {"driver": SIMULATED_CAMERA},
        **simulated_bin(),
        "learner": {
            "episodes": address.episodes,
            "releases": address.releases,
            "public_key": "server.public",
            "release_key": "release.public",
        },
    }


def write_toml(folder: Path, table: Table) -> Path:
    path = folder / "robot" / "robot.toml"
    path.write_text(toml_text(table))
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "robot_agent", *map(str, arguments)]


def ask(*arguments: str | Path, answer: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of the robot-agent to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        input=answer,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_agent(folder: Path, table: Table) -> subprocess.CompletedProcess[str]:
    return ask("--config", write_toml(folder, table))


def last_line(stderr: str) -> str:
    return stderr.strip().splitlines()[-1]


def written(state: Path) -> int:
    """Return how many attempts the agent spooled; 0 before it made its outbox."""
    try:
        return outbox_counts(state).written
    except ConfigurationError:
        return 0
