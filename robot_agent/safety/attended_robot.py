"""A robot that moves under the eyes of a person, without an agent: calibrated, or checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from robot_agent.closing import ClosingStack
from robot_agent.config import AgentConfig
from robot_agent.drivers import open_robot
from robot_agent.robots.base import Robot
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.watchdog import Watchdog
from robot_agent.safety.watched_parts import Watch
from robot_agent.safety.workspace import hold_still


@dataclass(frozen=True, kw_only=True, slots=True)
class AttendedRobot:
    """One robot, watched as an agent's is."""

    robot: Robot
    """Whatever moves it goes through this: it does nothing after a stop."""
    bare: Robot
    """The same as its driver opened it, for what only drivers have, such as motors to calibrate,
    and for cameras that look at a simulation."""
    watch: Watch


@contextmanager
def attended_robot(
    config: AgentConfig, emergency: EmergencyStop, measured_in: Path | None = None
) -> Iterator[AttendedRobot]:
    """Open a robot that may move, and close it at the end.

    After a stop, an error or Ctrl-C it holds still where it is instead of parking. If this process
    is killed, hangs in a motion, or cannot bring the arm to its safe state, a guard holds it, and
    only a person resumes.

    Args:
        config: of the robot.
        emergency: what stops it, looking already.
        measured_in: the folder in which its driver looks for what was measured of it; the state
            folder by default.

    Raises:
        SafetyFault: the robot was stopped, also if all else went well.
        ConfigurationError: it cannot be opened, or its guard does not start.
        RobotError: it does not answer, or may not hold still at the end.
    """
    with ClosingStack() as parts:
        watchdog = Watchdog.start(config)
        parts.closes("guard", watchdog.close)
        watch = Watch(watchdog, emergency)
        told = replace(config, state_folder=measured_in or config.state_folder)
        bare = open_robot(told, watch.beat)
        robot = watch.watched_robot(bare)
        parts.closes("robot", robot.close)
        try:
            yield AttendedRobot(robot=robot, bare=bare, watch=watch)
            emergency.check()
        except BaseException:
            if emergency.pulled is None:
                robot.stop()
            else:
                # Once more: what was under way may have let go of motors, and the stop says more.
                hold_still(robot)
            raise
    emergency.check()
