"""Does the robot answer, how are its motors, and can it be everywhere in its workspace."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from protocol.episode import GripperPose
from protocol.errors import RobotError, SafetyFault
from robot_agent.config import AgentConfig
from robot_agent.robots.base import (
    ReachLimitedRobot,
    Robot,
    RobotState,
    SelfCheckingRobot,
    ThermometerRobot,
)
from robot_agent.robots.check_result import CheckResult, fail, ok, warn

SHORT_BY_M = 0.001
"""A corner that is missed by less is reached."""
TURNED_BY_RAD = math.radians(2.0)
LEAST_OPENING = 0.7
"""A gripper that opens fully reads at least this share of its data sheet's opening."""
WARM_SHARE = 0.85
"""Of the temperature at which the robot is stopped."""


def check_robot(robot: Robot, config: AgentConfig) -> Iterator[CheckResult]:
    """Look at what the robot measures of itself; nothing moves."""
    if isinstance(robot, SelfCheckingRobot):
        yield from robot.checks()
    elif isinstance(robot, ThermometerRobot):
        yield _temperature(robot.temperature_c(), config.safety.max_temperature_c)
    yield _state(robot.state())


def check_reach(robot: Robot, config: AgentConfig) -> Iterator[CheckResult]:
    """Ask the arm's model whether it gets into every corner of the workspace, jaws either way."""
    subject = "reach"
    if not isinstance(robot, ReachLimitedRobot):
        yield ok(subject, "the driver knows of no limit")
        return
    workspace = config.workspace
    missed: dict[tuple[float, float, float], float] = {}
    for corner in itertools.product(workspace.x_m, workspace.y_m, workspace.z_m):
        for yaw_rad in (0.0, math.pi / 4, -math.pi / 4, -math.pi / 2):
            wished = GripperPose(x_m=corner[0], y_m=corner[1], z_m=corner[2], yaw_rad=yaw_rad)
            short_m, turned_rad = _apart(wished, robot.nearest_reachable(wished))
            if short_m > SHORT_BY_M or turned_rad > TURNED_BY_RAD:
                missed[corner] = max(short_m, missed.get(corner, 0.0))
    if not missed:
        yield ok(subject, "every corner of the workspace, with the jaws turned any way")
        return
    corner, short_m = max(missed.items(), key=lambda item: item[1])
    yield warn(
        subject,
        f"{len(missed)} of 8 corners of the workspace cannot be had upright with every turn of the "
        f"jaws; worst {_place(corner)}, short by {short_m * 1e3:.0f} mm",
        "make [workspace] smaller, or stand the arm nearer to the bin and correct 'mount'; the arm "
        "goes as near as it can",
    )


def check_gripper(robot: Robot) -> Iterator[CheckResult]:
    """Open, go out of view, close on nothing and open again, as every start does."""
    # The agent's own look at its gripper, with all that the agent needs.
    from robot_agent.agent import closed_zero_m

    subject = "gripper"
    opened_m = robot.open_gripper()
    least_m = LEAST_OPENING * robot.gripper.max_opening_m
    if not opened_m >= least_m:
        yield fail(
            subject,
            f"opens to {opened_m * 1e3:.1f} mm only; its data sheet says "
            f"{robot.gripper.max_opening_m * 1e3:.0f} mm",
            "free the fingers, then run: robot-agent calibrate",
        )
        return
    try:
        zero_m = closed_zero_m(robot)
    except SafetyFault:
        raise
    except RobotError as error:
        yield fail(subject, str(error), "free the fingers, then run: robot-agent calibrate")
        return
    yield ok(subject, f"opens to {opened_m * 1e3:.1f} mm, closes to {zero_m * 1e3:.1f} mm")


def _state(state: RobotState) -> CheckResult:
    subject = "pose"
    pose = state.pose
    values = [pose.x_m, pose.y_m, pose.z_m, pose.yaw_rad, state.opening_m]
    if not np.isfinite(values).all():
        return fail(subject, f"the robot measures {values}", "run: robot-agent calibrate")
    found = f"{_place((pose.x_m, pose.y_m, pose.z_m))}, yaw {math.degrees(pose.yaw_rad):.0f} deg"
    return ok(subject, f"{found}, opening {state.opening_m * 1e3:.1f} mm")


def _temperature(hottest_c: float, limit_c: float) -> CheckResult:
    subject = "motor temperature"
    found = f"{hottest_c:.0f} C; the robot is stopped at {limit_c:.0f} C"
    if hottest_c > limit_c:
        return fail(subject, found, "let it cool down; is something blocking the arm?")
    if hottest_c > WARM_SHARE * limit_c:
        return warn(subject, found, "let it cool down; is something blocking the arm?")
    return ok(subject, found)


def _apart(wished: GripperPose, found: GripperPose) -> tuple[float, float]:
    """Return how far two poses are apart: metres, and radians modulo half a turn of the jaws."""
    here, there = wished.as_array(), found.as_array()
    turn_rad = math.remainder(float(there[3] - here[3]), math.pi)
    return float(np.linalg.norm(there[:3] - here[:3])), abs(turn_rad)


def _place(corner: tuple[float, float, float]) -> str:
    x, y, z = corner
    return f"x {x:.3f}, y {y:.3f}, z {z:.3f} m"
