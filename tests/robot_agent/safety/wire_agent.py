"""The configuration of an agent on a recorded line."""

from __future__ import annotations

from pathlib import Path

from protocol.configuration import load_toml
from protocol.hand_eye import pinhole_map
from robot_agent.calibrating.calibration import Calibration, keep
from robot_agent.config import AgentConfig
from tests.robot_agent.agent_process import make_table, write_toml
from tests.robot_agent.drawn_robot import CAMERA, FOV_DEG
from tests.robot_agent.safety.wire_robot import DRIVER


def agent_toml(folder: Path, **changes: object) -> Path:
    """Write the configuration of an agent that knows its hand-eye map, on a recorded line."""
    table = make_table(folder) | {
        "max_attempts": 0,
        "robot": {"driver": DRIVER, "options": {"port": str(folder / "port"), "motion_s": 0.1}},
        "camera": {"driver": "tests.robot_agent.drawn_robot:DrawnCamera"},
        "camera_description": {**CAMERA, "vertical_fov_deg": FOV_DEG},
    }
    path = write_toml(folder, table | changes)
    config = load_toml(path, AgentConfig)
    truth = pinhole_map(**CAMERA, vertical_fov_deg=FOV_DEG, aspect=1.0)
    keep(Calibration(hand_eye_map=truth, residual=0.0, trusted=True), config)
    return path
