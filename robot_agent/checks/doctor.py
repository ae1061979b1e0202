"""Looks at one part of a robot after the other; what fails does not keep it from the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import cast

from protocol.errors import ConfigurationError, GraspFleetError
from robot_agent.cameras.detail import detailed
from robot_agent.checks.arm import check_gripper, check_parts, check_pose, check_reach
from robot_agent.checks.board import check_board
from robot_agent.checks.calibration import check_calibration, lacks_joints
from robot_agent.checks.camera import check_camera, check_sharpness
from robot_agent.checks.clock import check_clock
from robot_agent.checks.disk import check_disk
from robot_agent.checks.keys import check_keys
from robot_agent.checks.last_release import check_release
from robot_agent.checks.network import check_network
from robot_agent.checks.serial_port import check_ports
from robot_agent.checks.stop import check_stop
from robot_agent.checks.subject import SUBJECTS, Subject
from robot_agent.config import AgentConfig
from robot_agent.delivery.outbox_file import claim
from robot_agent.drivers import open_camera, open_robot
from robot_agent.robots.base import Robot
from robot_agent.robots.check_result import CheckResult, fail, warn
from robot_agent.safety.attended_robot import attended_robot
from robot_agent.safety.emergency_stop import EmergencyStop

_OF_THE_COMPUTER: dict[Subject, Callable[[AgentConfig], Iterable[CheckResult]]] = {
    "board": lambda _: check_board(),
    "disk": check_disk,
    "clock": check_clock,
    "keys": check_keys,
    "release": check_release,
    "network": check_network,
    "stop": check_stop,
    "calibration": check_calibration,
}
_REMEDIES: dict[Subject, str] = {
    "robot": "is it powered, and each cable in? Correct [robot.options] if it is another arm",
    "camera": "is its cable in? Correct [camera] in robot.toml if it is another camera",
}
"""For what keeps a subject from being looked at altogether."""


def examine(
    config: AgentConfig,
    *,
    skip: Collection[Subject] = (),
    emergency: EmergencyStop | None = None,
) -> Generator[CheckResult, None, None]:
    """Yield what is found, part by part. An arm that moved holds still when this is cut short.

    Args:
        config: of the robot.
        skip: what is not looked at.
        emergency: what stops the robot, looking already: it may move then, and does nothing more
            once it was stopped. None: it may not, and the gripper is not looked at.
    """
    wanted = set(SUBJECTS).difference(skip)
    if emergency is None:
        wanted.discard("gripper")
    for subject, check in _OF_THE_COMPUTER.items():
        if subject in wanted:
            yield from _results(subject, partial(check, config))
    if wanted.difference(_OF_THE_COMPUTER):
        yield from _beside_no_agent(config, wanted, emergency)


def _beside_no_agent(
    config: AgentConfig, wanted: set[Subject], emergency: EmergencyStop | None
) -> Iterator[CheckResult]:
    """Look at arm and camera, and keep an agent from starting meanwhile."""
    # A robot that moves needs the folder: there a stop is kept.
    if emergency is None and not config.state_folder.is_dir():
        yield from _hardware(config, wanted, emergency)
        return
    try:
        claimed = claim(config.state_folder)
    except ConfigurationError as error:
        yield warn(
            "agent",
            f"arm and camera are not looked at: {error}",
            "stop the agent first: systemctl stop graspfleet-agent@NAME",
        )
        return
    with claimed:
        yield from _hardware(config, wanted, emergency)


def _hardware(
    config: AgentConfig, wanted: set[Subject], emergency: EmergencyStop | None
) -> Iterator[CheckResult]:
    if "port" in wanted:
        yield from _results("port", partial(check_ports, config))
    robot, bare, parts = None, None, ExitStack()
    if wanted & {"robot", "reach", "gripper", "camera"}:
        mover = emergency if "gripper" in wanted else None
        try:
            robot, bare = parts.enter_context(_opened(config, mover))
        except GraspFleetError as error:
            yield _failed("robot", error)
    try:
        with parts:
            if robot is not None:
                yield from _robot(robot, config, wanted)
            if "camera" in wanted:
                yield from _results("camera", partial(_camera, config, bare))
    except (GraspFleetError, OSError) as error:  # of closing: all else is a result already
        yield _failed("robot", error)


@contextmanager
def _opened(config: AgentConfig, mover: EmergencyStop | None) -> Iterator[tuple[Robot, Robot]]:
    """Open the robot; one that is not to move is left alone also when this is cut short.

    Yields what it is used through, and what its driver opened: a simulated camera needs that.
    """
    if mover is None:
        with closing(open_robot(config)) as robot:
            yield robot, robot
    else:
        with attended_robot(config, mover) as attended:
            yield attended.robot, attended.bare


def _robot(robot: Robot, config: AgentConfig, wanted: set[Subject]) -> Iterator[CheckResult]:
    if "robot" in wanted:
        yield from _results("robot", partial(check_parts, robot, config))
    if lacks_joints(config):
        return  # it does not know where it is: one failure, told by check_calibration
    if "robot" in wanted:
        yield from _results("robot", partial(check_pose, robot))
    if "reach" in wanted:
        yield from _results("reach", partial(check_reach, robot, config))
    if "gripper" in wanted:
        yield from _results("gripper", partial(check_gripper, robot))


def _camera(config: AgentConfig, bare: Robot | None) -> Iterator[CheckResult]:
    # A real camera ignores the robot; a simulated one refuses what is not simulated.
    with closing(open_camera(config.camera, cast("Robot", bare))) as camera:
        yield from check_camera(camera)
    with closing(open_camera(detailed(config.camera), cast("Robot", bare))) as camera:
        yield from check_sharpness(camera)


def _results(subject: Subject, check: Callable[[], Iterable[CheckResult]]) -> Iterator[CheckResult]:
    try:
        yield from check()
    except (GraspFleetError, OSError) as error:
        yield _failed(subject, error)


def _failed(subject: Subject, error: Exception) -> CheckResult:
    return fail(subject, str(error), _REMEDIES.get(subject, "see docs/robot_check.md"))
