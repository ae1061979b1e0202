"""A robot that moves under the eyes of a person, without an agent: calibrated, or checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from robot_agent.closing import ClosingStack
from robot_agent.config import AgentConfig
from robot_agent.robots.base import Robot
from robot_agent.safety.watchdog import Watchdog


@contextmanager
def attended_robot(config: AgentConfig, connect: Callable[[], Robot]) -> Iterator[Robot]:
    """Open a robot that may move, and close it at the end.

    After an error or Ctrl-C it holds still where it is instead of parking. If this process is
    killed, or cannot bring the arm to its safe state, a guard holds it, and only a person resumes.

    Args:
        config: of the robot.
        connect: opens it; nothing moves yet.

    Raises:
        ConfigurationError: the robot cannot be opened, or its guard does not start.
        RobotError: it does not answer, or may not hold still at the end.
    """
    with ClosingStack() as parts:
        watchdog = Watchdog.start(config)
        parts.closes("guard", watchdog.close)
        robot = connect()
        watchdog.note_open()

        def close() -> None:
            robot.close()
            watchdog.note_safe()

        parts.closes("robot", close)
        try:
            yield robot
        except BaseException:
            robot.stop()
            raise
