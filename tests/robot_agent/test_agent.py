"""The gripper's zero, as the agent measures it when it starts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from protocol.errors import RobotError
from robot_agent.agent import closed_zero_m
from tests.robot_agent.simulated_agent import make_site


def test_the_grippers_zero_is_what_it_reads_when_it_closes_on_nothing(tmp_path: Path):
    options = {"opening_drift_m": 0.0015, "gripper_wear": 0.5}
    robot = make_site(tmp_path, options).robot
    assert math.isclose(closed_zero_m(robot), 0.0015 + 0.0004, abs_tol=3e-4)
    assert robot.state().opening_m > 0.07


@pytest.mark.parametrize("reading_m", [0.02, -0.02, math.nan])
def test_a_gripper_that_closes_on_something_is_not_zeroed(tmp_path: Path, reading_m: float):
    robot = make_site(tmp_path).robot
    robot.close_gripper = lambda: reading_m
    with pytest.raises(RobotError, match="is something between the fingers"):
        closed_zero_m(robot)
