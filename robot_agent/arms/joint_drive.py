"""JointDrive: brings calibrated joints along a path, watches them, and ends when they are still."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.errors import RobotError
from robot_agent.arms.clock import Clock
from robot_agent.arms.holding import MAX_SAG_RAD, stay_at
from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.arms.joint_path import JointPath
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.arms.servo_group import ServoGroup, ServoReadings
from robot_agent.arms.servo_watch import ServoWatch
from robot_agent.config import SafetyConfig

logger = logging.getLogger(__name__)

CYCLE_S = 0.02
"""Between two set points."""
FOLLOWING_ERROR_RAD = 0.08
"""A joint this far off the set points of the last moments is blocked."""
LOADED_ERROR_RAD = 0.04
"""The same for a motor at the limit of its torque."""
LAG_CYCLES = 12
"""The moments that a joint may lag behind its set points."""
BLOCKED_CYCLES = 3
ARRIVED_RAD = 0.003
"""A remaining error that needs no correction."""
CORRECTIONS = 2
MAX_BEYOND_RAD = 0.3
"""How far beyond its calibrated limits a joint may have been folded by hand."""
STILL_RAD = 0.004
"""Less motion than this in a tenth of a second counts as none."""
STILL_CYCLES = 5
SETTLE_LIMIT_S = 1.5
RAMP_RATIO = 4.0
"""A motor's own ramp is steeper than the path's: else it would lag behind it. The path keeps the
limit; the ramp bounds what a single wrong set point can do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JointReadings:
    """What the motors measured, as the joints of the model."""

    joints_rad: NDArray[np.float64]
    """float64[N]."""
    loads: NDArray[np.float64]
    """float64[N], share of the stall torque, in the joints' sense."""
    read_at_ns: int


class JointDrive:
    """The joints of one arm. For one thread; a stop of another one comes through the gate."""

    def __init__(
        self,
        servos: ServoGroup,
        calibration: JointCalibration,
        safety: SafetyConfig,
        *,
        watch: ServoWatch,
        gate: MotionGate,
        clock: Clock,
        beat: Callable[[], None],
    ) -> None:
        self._servos = servos
        self._calibration = calibration
        self._safety = safety
        self._watch = watch
        self._gate = gate
        self._clock = clock
        self._beat = beat
        self._torque = safety.max_torque
        self._sag_rad = np.zeros(len(calibration.joints))
        self._room_rad = calibration.limits_rad

    def read(self) -> JointReadings:
        """Measure the joints now. Raises RobotError or SafetyFault; see ServoWatch."""
        return self._judged(self._servos.read())

    def engage(self, torque: float) -> None:
        """Switch the motors on where the joints stand, with ``torque`` as the limit.

        Raises:
            RobotError: a joint is where none can be by its calibration; see also ServoWatch.
        """
        before = self._servos.read()
        self._check_calibration(self._calibration.joints_from_motors(before.positions_rad))
        with self._gate.passing():
            self._servos.set_torque(True, torque)
            stay_at(self._servos, before.positions_rad)
        self._torque = torque
        sag_rad = self._judged(before).joints_rad - self.settle().joints_rad
        self._sag_rad = np.clip(sag_rad, -MAX_SAG_RAD, MAX_SAG_RAD)

    def follow(self, path: JointPath) -> bool:
        """Go along ``path``, which begins where the joints are, and wait until they are still.

        A joint that is blocked ends it: the arm then stays where it got to.

        Returns:
            Whether the joints arrived.

        Raises:
            RobotError: stopped, or a motor does not answer or complains.
            SafetyFault: a motor must not go on.
        """
        self._room_rad = self._room_from(path.at(0.0))
        window = deque([path.at(0.0)], maxlen=LAG_CYCLES)
        blocked = 0
        elapsed_s, last_s = 0.0, self._clock.monotonic_s()
        while elapsed_s < path.duration_s:
            self._beat()
            self._clock.sleep(CYCLE_S - (self._clock.monotonic_s() - last_s))
            now_s = self._clock.monotonic_s()
            # A cycle that came late delays the motion: the set point must never jump.
            elapsed_s += min(max(now_s - last_s, CYCLE_S), 2 * CYCLE_S)
            last_s = now_s
            window.append(path.at(elapsed_s))
            readings = self._cycle(window[-1])
            blocked = blocked + 1 if self._is_blocked(readings, window) else 0
            if blocked == BLOCKED_CYCLES:
                self._stay(readings.joints_rad)
                return False
        return self._arrive(path.joints_rad[-1])

    def settle(self) -> JointReadings:
        """Wait until the joints are still, at most SETTLE_LIMIT_S; return what they read then."""
        readings = self.read()
        seen = deque([readings.joints_rad], maxlen=STILL_CYCLES + 1)
        for _ in range(round(SETTLE_LIMIT_S / CYCLE_S)):
            self._beat()
            self._clock.sleep(CYCLE_S)
            with self._gate.passing():
                readings = self.read()
            seen.append(readings.joints_rad)
            if len(seen) > STILL_CYCLES and np.ptp(seen, axis=0).max() < STILL_RAD:
                break
        return readings

    def _arrive(self, goal_rad: NDArray[np.float64]) -> bool:
        """Settle at ``goal_rad``, making up for what gravity takes; return whether it was had."""
        readings = self.settle()
        for _ in range(CORRECTIONS):
            missing_rad = goal_rad - readings.joints_rad
            if self._is_blocked(readings, [goal_rad]):
                self._stay(readings.joints_rad)
                return False
            if np.abs(missing_rad).max() < ARRIVED_RAD:
                break
            before_rad = self._sag_rad
            self._sag_rad = np.clip(before_rad + missing_rad, -MAX_SAG_RAD, MAX_SAG_RAD)
            self._command(goal_rad)
            readings = self.settle()
            if np.abs(goal_rad - readings.joints_rad).max() > np.abs(missing_rad).max() / 2:
                # Not weight but a contact: it is not pressed on.
                self._sag_rad = before_rad
                self._command(goal_rad)
                break
        self._watch.note_success()
        return True

    def _stay(self, joints_rad: NDArray[np.float64]) -> None:
        """Give up the goal for where the joints are: no pressing on what is in the way."""
        logger.info("arm is blocked", extra={"joints_rad": joints_rad.round(3).tolist()})
        self._room_rad = self._room_from(joints_rad)
        self._command(joints_rad)
        self.settle()

    def _cycle(self, goal_rad: NDArray[np.float64]) -> JointReadings:
        self._command(goal_rad)
        return self.read()

    def _command(self, goal_rad: NDArray[np.float64]) -> None:
        safety, scale = self._safety, np.ones_like(goal_rad)
        goal_rad = np.clip(goal_rad + self._sag_rad, *self._room_rad.T)
        with self._gate.passing():
            self._servos.command(
                self._calibration.motors_from_joints(goal_rad),
                speeds_rad_s=scale * safety.max_joint_speed_rad_s,
                accelerations_rad_s2=scale * safety.max_joint_acceleration_rad_s2 * RAMP_RATIO,
            )

    def _room_from(self, start_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64[N, 2], between what goals may lie on a way from ``start_rad``.

        Those are the limits, but an arm that was folded beyond them by hand comes back along its
        path, not at once.
        """
        lower_rad, upper_rad = self._calibration.limits_rad.T
        lowest_rad = np.clip(start_rad, lower_rad - MAX_BEYOND_RAD, lower_rad)
        highest_rad = np.clip(start_rad, upper_rad, upper_rad + MAX_BEYOND_RAD)
        return np.stack([lowest_rad, highest_rad], axis=1)

    def _check_calibration(self, joints_rad: NDArray[np.float64]) -> None:
        lower_rad, upper_rad = self._calibration.limits_rad.T
        beyond_rad = np.maximum(lower_rad - joints_rad, joints_rad - upper_rad)
        worst = int(np.argmax(beyond_rad))
        if beyond_rad[worst] > MAX_BEYOND_RAD:
            joint = self._calibration.joints[worst]
            raise RobotError(
                f"joint {joint.name} reads {joints_rad[worst]:+.2f} rad, {beyond_rad[worst]:.2f} "
                f"beyond its limits of {joint.lower_rad:+.2f} to {joint.upper_rad:+.2f} rad (at "
                f"most {MAX_BEYOND_RAD} can be): turn it back if it has no stops and somebody "
                "turned it; else its motor is not as it was calibrated, so run `robot-agent "
                "calibrate`"
            )

    def _judged(self, readings: ServoReadings) -> JointReadings:
        self._watch.check(readings)
        return JointReadings(
            joints_rad=self._calibration.joints_from_motors(readings.positions_rad),
            loads=self._calibration.directions * readings.loads,
            read_at_ns=readings.read_at_ns,
        )

    def _is_blocked(self, readings: JointReadings, goals: Sequence[NDArray[np.float64]]) -> bool:
        """Say whether a joint is off all of ``goals``, float64[N] each, by more than it may."""
        goals_rad = np.stack(goals)
        joints_rad = readings.joints_rad
        error_rad = np.maximum(
            goals_rad.min(axis=0) - joints_rad, joints_rad - goals_rad.max(axis=0)
        )
        is_loaded = np.abs(readings.loads) >= 0.95 * self._torque
        return bool((error_rad > np.where(is_loaded, LOADED_ERROR_RAD, FOLLOWING_ERROR_RAD)).any())
