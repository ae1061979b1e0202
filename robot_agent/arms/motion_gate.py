"""MotionGate: who may move, and when: a stop from any thread comes between two commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock

from protocol.errors import RobotError, SafetyFault


class MotionGate:
    """What every command to an arm's motors passes; shared by the arm and its gripper."""

    def __init__(self, robot: str) -> None:
        self._robot = robot
        self._lock = RLock()
        self._stops = 0
        self._stops_at_start = 0
        self._fault: SafetyFault | None = None
        self.is_ready = False
        """Whether the motors are on and the arm may go on from where it is."""

    @contextmanager
    def motion(self, beat: Callable[[], None], make_ready: Callable[[], None]) -> Iterator[None]:
        """Make sure that the arm may move and can, and know how its motion ended.

        Args:
            beat: the site's.
            make_ready: called unless the last motion went well and nobody has stopped it since.

        Raises:
            SafetyFault: the robot was stopped for good, or a fault has ended a motion before.
            RobotError: somebody stopped it meanwhile.
        """
        if self._fault is not None:
            raise SafetyFault(
                f"{self._robot}: does not move since a fault: {self._fault}; once a person has "
                "seen to it, start the agent again"
            )
        self.start_motion()
        try:
            beat()
            if not self.is_ready:
                make_ready()
                with self.passing():
                    self.is_ready = True
            yield
        except BaseException as error:
            # Also after Ctrl-C, or an error in here, nothing but holding may follow.
            self.is_ready = False
            if isinstance(error, SafetyFault):
                self._fault = error
            raise

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
            self.is_ready = False
            yield
