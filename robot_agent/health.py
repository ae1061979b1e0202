"""What an agent knows of its robot's health, for operators; nothing it does depends on it."""

from __future__ import annotations

import logging
from collections import deque

from protocol.episode import Episode, Label
from protocol.errors import CameraError, GraspFleetError, RobotError, SafetyFault
from protocol.messages import RobotHealth
from robot_agent.attempts.camera_shift import CameraShift
from robot_agent.attempts.gripper_zero import GripperZero
from robot_agent.robots.base import Robot, ThermometerRobot

logger = logging.getLogger(__name__)

_RECENT_ATTEMPTS = 20


class Health:
    """Taken down by the attempts' thread, read by the uplink's."""

    def __init__(self, robot: Robot, camera_shift: CameraShift, gripper_zero: GripperZero) -> None:
        self._robot = robot
        self._camera_shift = camera_shift
        self._gripper_zero = gripper_zero
        self._servoing: deque[tuple[int, float]] = deque(maxlen=_RECENT_ATTEMPTS)
        """Of each recent attempt: steps between pictures, and what they took, seconds."""
        self.camera_ok = self.servos_ok = True
        self.camera_faults = self.servo_faults = self.safety_stops = 0
        self.temperature_c: float | None = None
        """Of the hottest part after the last attempt; None where the hardware does not tell."""
        self._feels = True
        """The thermometer answered when it was last asked."""

    def note_attempt(self, episode: Episode, error: GraspFleetError | None) -> None:
        """Take what an attempt showed; ``error`` is what aborted it."""
        self.note_error(error)
        if error is None:
            self.camera_ok = self.servos_ok = True
        if episode.outcome.label != Label.ABORTED:
            self._camera_shift.add(episode.last_image)
            self._gripper_zero.add(episode.outcome)
        times_ns = [step.observation.captured_at_ns for step in episode.steps]
        if len(times_ns) > 1 and times_ns[-1] > times_ns[0]:
            self._servoing.append((len(times_ns) - 1, (times_ns[-1] - times_ns[0]) * 1e-9))
        self._feel_temperature()

    def note_error(self, error: GraspFleetError | None) -> None:
        """Take what ended an attempt, or kept it from beginning."""
        if isinstance(error, SafetyFault):
            self.safety_stops += 1
        elif isinstance(error, CameraError):
            self.camera_ok = False
            self.camera_faults += 1
        elif isinstance(error, RobotError):
            self.servos_ok = False
            self.servo_faults += 1

    def report(self) -> RobotHealth:
        """Return what is known of the robot itself. Any thread may ask."""
        return RobotHealth(
            servo_hz=self._servo_hz(),
            camera_ok=self.camera_ok,
            servos_ok=self.servos_ok,
            camera_faults=self.camera_faults,
            servo_faults=self.servo_faults,
            safety_stops=self.safety_stops,
            camera_shift_px=self._camera_shift.pixels,
            gripper_zero_drift_m=_within(self._gripper_zero.drift_m, -1.0, 1.0),
            temperature_c=_within(self.temperature_c, -273.0, 1000.0),
        )

    def _servo_hz(self) -> float:
        recent = list(self._servoing)
        seconds = sum(taken_s for _, taken_s in recent)
        return sum(steps for steps, _ in recent) / seconds if seconds else 0.0

    def _feel_temperature(self) -> None:
        if not isinstance(self._robot, ThermometerRobot):
            return
        try:
            self.temperature_c = self._robot.temperature_c()
            self._feels = True
        except SafetyFault:
            raise
        except GraspFleetError as error:
            # Not a fault of the arm: it finished its attempt.
            self.temperature_c = None
            if self._feels:
                logger.warning("temperature is unknown from now on, attempts go on: %s", error)
            self._feels = False


def _within(value: float | None, low: float, high: float) -> float | None:
    """Return a reading, or None when it can be none: the learner would refuse all that is said."""
    return value if value is not None and low <= value <= high else None
