"""Does the robot answer, how are its motors, and can it be everywhere in its workspace."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, PoseUnknownError, RobotError, SafetyFault
from robot_agent.config import AgentConfig, WorkspaceConfig
from robot_agent.robots.base import (
    ReachLimitedRobot,
    Robot,
    RobotState,
    SelfCheckingRobot,
    ThermometerRobot,
)
from robot_agent.robots.check_result import CheckResult, fail, ok, warn

Place = tuple[float, float, float]
PER_AXIS = 3
"""Places along each axis of the workspace that are looked at."""
TURNS_RAD = (0.0, math.pi / 4, -math.pi / 4, -math.pi / 2)
SHORT_BY_M = 0.001
"""A place that is missed by less is reached."""
TURNED_BY_RAD = math.radians(2.0)
LEAST_OPENING = 0.7
"""A gripper that opens fully reads at least this share of its data sheet's opening."""
WARM_SHARE = 0.85
"""Of the temperature at which the robot is stopped."""


def check_parts(robot: Robot, config: AgentConfig) -> Iterator[CheckResult]:
    """Look at what the robot's parts measure of themselves; nothing moves."""
    if isinstance(robot, SelfCheckingRobot):
        yield from robot.checks()
    elif isinstance(robot, ThermometerRobot):
        yield _temperature(robot.temperature_c(), config.safety.max_temperature_c)


def check_pose(robot: Robot) -> Iterator[CheckResult]:
    """Look at where the robot believes to be; nothing moves."""
    try:
        yield _state(robot.state())
    except PoseUnknownError as error:  # it has not moved yet
        yield ok("pose", str(error))
    except ConfigurationError as error:  # the gripper alone was never calibrated
        yield fail("pose", str(error), "run: robot-agent calibrate")


def check_reach(robot: Robot, config: AgentConfig) -> Iterator[CheckResult]:
    """Ask the arm's model whether it gets everywhere in the workspace, jaws turned any way.

    Not the corners alone: an arm cannot get at what is too near to its own axis either.
    """
    subject = "reach"
    if not isinstance(robot, ReachLimitedRobot):
        yield ok(subject, "the driver knows of no limit")
        return
    missed = dict(_missed(robot, config.workspace))
    if not missed:
        yield ok(subject, "corners, edges and middle of the workspace, the jaws turned any way")
        return
    place, short_m = max(missed.items(), key=lambda item: item[1])
    yield warn(
        subject,
        f"{len(missed)} of {PER_AXIS**3} places of the workspace cannot be had upright with every "
        f"turn of the jaws; worst {_place(place)}, short by {short_m * 1e3:.0f} mm",
        "make [workspace] smaller, or stand the arm nearer to the bin or farther from it and "
        "correct 'mount'; the arm goes as near as it can",
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


def _missed(robot: ReachLimitedRobot, workspace: WorkspaceConfig) -> Iterator[tuple[Place, float]]:
    """Yield each place of a grid that cannot be had with every turn, and how far it is missed."""
    axes = (
        np.linspace(*limits, PER_AXIS) for limits in (workspace.x_m, workspace.y_m, workspace.z_m)
    )
    for x_m, y_m, z_m in itertools.product(*axes):
        place = (float(x_m), float(y_m), float(z_m))
        wished = [
            GripperPose(x_m=place[0], y_m=place[1], z_m=place[2], yaw_rad=yaw_rad)
            for yaw_rad in TURNS_RAD
        ]
        apart = [_apart(one, robot.nearest_reachable(one)) for one in wished]
        if any(short_m > SHORT_BY_M or turned_rad > TURNED_BY_RAD for short_m, turned_rad in apart):
            yield place, max(short_m for short_m, _ in apart)


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


def _place(place: Place) -> str:
    x, y, z = place
    return f"x {x:.3f}, y {y:.3f}, z {z:.3f} m"
