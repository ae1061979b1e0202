"""MotionGate: a stop from any thread comes between two commands, and none follows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from protocol.errors import RobotError


class MotionGate:
    """What every command to an arm's motors passes; shared by the arm and its gripper."""

    def __init__(self, robot: str) -> None:
        self._robot = robot
        self._lock = RLock()
        self._stops = 0
        self._stops_at_start = 0

    def start_motion(self) -> None:
        """A motion is asked for: stops from before it no longer count.

        Ask whether the robot is stopped for good after this, never before: else a stop that comes
        between the two is forgotten.
        """
        with self._lock:
            self._stops_at_start = self._stops

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Hold every stop off for one exchange with the motors.

        Raises:
            RobotError: the robot was stopped since the motion began.
        """
        with self._lock:
            if self._stops != self._stops_at_start:
                raise RobotError(f"{self._robot}: stopped in the middle of a motion")
            yield

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """End the motion that goes on, if any, and keep its thread out meanwhile."""
        with self._lock:
            self._stops += 1
            yield
