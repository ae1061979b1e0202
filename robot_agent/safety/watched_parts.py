"""Robot and camera as the agent uses them: watched while they work, and never after a stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event
from typing import cast

from protocol.episode import GripperPose
from protocol.errors import EndedEarlyError, GraspFleetError, SafetyFault
from robot_agent.cameras.base import Camera, Frame
from robot_agent.robots.base import (
    GripperModel,
    InstrumentedRobot,
    ReachLimitedRobot,
    Robot,
    RobotState,
    SelfCheckingRobot,
    ThermometerRobot,
    TurningRobot,
)
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.watchdog import Watchdog

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.1
"""How often an arm is looked at while its agent pauses."""


class Watch:
    """What every call passes through. Belongs to the agent's working thread, but for ``beat``."""

    def __init__(self, watchdog: Watchdog, emergency: EmergencyStop) -> None:
        self._watchdog = watchdog
        self._emergency = emergency
        self._arm: Robot | None = None
        """A robot whose motors go on without its agent."""
        self._ending: Event | None = None

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Be watched during a whole attempt.

        Raises:
            SafetyFault: the guard is gone. This or any other fault stops the robot for good, as
                anybody's stop does.
        """
        try:
            with self._watchdog.at_work():
                yield
        except SafetyFault as fault:
            self._emergency.pull(f"because of a fault: {fault}")
            raise

    @contextmanager
    def unless(self, ending: Event) -> Iterator[None]:
        """Begin no call once ``ending`` is set: what is under way is not worth its end.

        Raises:
            EndedEarlyError: instead of the next call.
        """
        self._ending = ending
        try:
            yield
        finally:
            self._ending = None

    @contextmanager
    def call(self) -> Iterator[None]:
        """Be watched during one call of the robot's or the camera's.

        Raises:
            SafetyFault: the robot was stopped before or meanwhile, or there is another fault.
            EndedEarlyError: see ``unless``.
        """
        self._emergency.check()
        if self._ending is not None and self._ending.is_set():
            raise EndedEarlyError("asked to end before it was ready")
        try:
            with self.attempt():
                yield
        except SafetyFault:
            raise
        except GraspFleetError as error:
            # A motion that was stopped fails; that is not the robot's fault.
            self._emergency.check(error)
            raise
        self._emergency.check()

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Be watched on the way to the safe state, which must be had also without a guard."""
        with ExitStack() as parts:
            with suppress(SafetyFault):
                parts.enter_context(self._watchdog.at_work())
            try:
                yield
            except BaseException:
                self._emergency.leave()
                raise

    def beat(self) -> None:
        """Give a sign of life from within a motion.

        Raises:
            SafetyFault: the robot was stopped, or the guard is gone.
        """
        self._emergency.check()
        self._watchdog.beat()

    def pause(self, stopping: Event, pause_s: float) -> None:
        """Wait for ``stopping``, at most ``pause_s``, after something failed.

        An arm is looked at meanwhile: motors that let go, or are overloaded again, must not stay so
        until the next try.

        Raises:
            SafetyFault: only a person may resume; the robot was told to hold still.
        """
        end_s = time.monotonic() + pause_s
        while not stopping.is_set() and (left_s := end_s - time.monotonic()) > 0:
            self._look_at_arm()
            stopping.wait(min(left_s, LOOK_EVERY_S))

    def _look_at_arm(self) -> None:
        if self._arm is None:
            return
        try:
            with self.call():
                self._arm.state()
        except SafetyFault:
            raise
        except GraspFleetError as error:
            # What is paused for was said already; the next try says if it lasts.
            logger.debug("in the pause: %s", error)

    def watched_robot(self, robot: Robot) -> Robot:
        """Return ``robot``, which is open, so that all that it does is watched."""
        self._watchdog.note_open()
        self._emergency.protect(robot)
        if self._watchdog.guard_pid is not None:
            self._arm = robot
        # Open it is already, so it lacks the means to be opened.
        return cast(Robot, _WatchedRobot(robot, self))

    def watched_camera(self, camera: Camera) -> Camera:
        """Return ``camera``, which is open, so that every picture is watched."""
        return cast(Camera, _WatchedCamera(camera, self))

    def note_closed(self) -> None:
        """The robot was brought to its safe state, and answers no more."""
        self._emergency.protect(None)
        self._watchdog.note_safe()


class _WatchedRobot:
    """Does what the robot inside does, also what not all robots do."""

    def __init__(self, robot: Robot, watch: Watch) -> None:
        self._robot = robot
        self._watch = watch
        # As attributes: isinstance() of these protocols asks who has them, and would not see
        # __getattr__ from Python 3.12 on.
        if isinstance(robot, ReachLimitedRobot):
            self.nearest_reachable = robot.nearest_reachable
        if isinstance(robot, TurningRobot):
            self.hand_yaw_rad = watch.call()(robot.hand_yaw_rad)
        if isinstance(robot, ThermometerRobot):
            self.temperature_c = watch.call()(robot.temperature_c)
        if isinstance(robot, SelfCheckingRobot):
            self.checks = robot.checks
        if isinstance(robot, InstrumentedRobot):
            self.reference_outcome = robot.reference_outcome

    @property
    def gripper(self) -> GripperModel:
        return self._robot.gripper

    def state(self) -> RobotState:
        with self._watch.call():
            return self._robot.state()

    def move_to(self, pose: GripperPose) -> RobotState:
        with self._watch.call():
            return self._robot.move_to(pose)

    def open_gripper(self) -> float:
        with self._watch.call():
            return self._robot.open_gripper()

    def close_gripper(self) -> float:
        with self._watch.call():
            return self._robot.close_gripper()

    def retreat(self) -> RobotState:
        with self._watch.call():
            return self._robot.retreat()

    def prepare_attempt(self) -> bool:
        with self._watch.call():
            return self._robot.prepare_attempt()

    def stop(self) -> None:
        self._robot.stop()

    def close(self) -> None:
        with self._watch.closing():
            self._robot.close()
        self._watch.note_closed()


class _WatchedCamera:
    def __init__(self, camera: Camera, watch: Watch) -> None:
        self._camera = camera
        self._watch = watch

    def capture(self) -> Frame:
        with self._watch.call():
            return self._camera.capture()

    def close(self) -> None:
        self._camera.close()
