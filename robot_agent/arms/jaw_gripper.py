"""JawGripper: a motor on the arm's own bus that opens and closes the fingers by a linkage."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from protocol.errors import ConfigurationError, RobotError, SafetyFault
from robot_agent.arms.clock import Clock
from robot_agent.arms.joint_calibration import GripperScale
from robot_agent.arms.linkage import Linkage
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.arms.servo_checks import check_servos
from robot_agent.arms.servo_group import ServoGroup, ServoReadings
from robot_agent.arms.servo_watch import ServoWatch
from robot_agent.config import SafetyConfig
from robot_agent.robots.base import GripperModel
from robot_agent.robots.check_result import CheckResult

CYCLE_S = 0.02
STILL_RAD = 0.004
STILL_CYCLES = 6
"""The jaw is at rest when it moves by no more than that in so many cycles, or in as many as a slow
jaw needs for twice the way."""
MARGIN_S = 2.0
"""A motion of the jaw may take so much longer than its speed says."""
SQUEEZE_RAD = 0.25
"""The goal lies this far inside what is gripped: the limited torque, not the goal, is the grip."""
GRIPPING_LOAD = 0.05
ACCELERATION_RAD_S2 = 30.0


class JawGripper:
    """Satisfies GripperMotor. Motions from one thread; ``hold`` from any."""

    def __init__(
        self,
        servos: ServoGroup,
        scale: GripperScale | None,
        *,
        name: str,
        model: GripperModel,
        linkage: Linkage,
        safety: SafetyConfig,
        watch: ServoWatch,
        gate: MotionGate,
        clock: Clock,
        beat: Callable[[], None],
    ) -> None:
        """Take the motor; nothing moves.

        Args:
            servos: a group of one.
            scale: what it reads closed and open; None before it is calibrated.
            name: of the robot, for what is said of it.
            model: the gripper's data sheet; it opens to its ``max_opening_m``, not further.
            linkage: what is between motor and finger tips.
            safety: the site's limits.
            watch: judges the readings.
            gate: the arm's.
            clock: the arm's.
            beat: called in every cycle.
        """
        self._servos = servos
        self._scale = scale
        self._name = name
        self._model = model
        self._linkage = linkage
        self._safety = safety
        self._watch = watch
        self._gate = gate
        self._clock = clock
        self._beat = beat

    @property
    def servos(self) -> ServoGroup:
        """The motor, for who calibrates it."""
        return self._servos

    @property
    def model(self) -> GripperModel:
        """The gripper's data sheet."""
        return self._model

    def open_fully(self) -> float:
        """Open until the fingers stop; return the measured opening in metres."""
        scale = self._calibrated()
        turn_rad = self._linkage.turn_rad(self._model.max_opening_m)
        way_rad = scale.open_rad - scale.closed_rad
        return self._drive(scale.closed_rad + math.copysign(min(turn_rad, abs(way_rad)), way_rad))

    def close(self) -> float:
        """Close until the fingers stop; return the measured opening in metres. It goes on
        gripping.
        """
        scale = self._calibrated()
        return self._drive(scale.closed_rad - math.copysign(SQUEEZE_RAD, self._opens))

    def opening_m(self) -> float:
        """Measure the opening now, metres."""
        return self._opening_at(self._read())

    def hold(self) -> None:
        """Keep the fingers as they are; what is gripped stays gripped."""
        with self._gate.stopping():
            squeeze_rad = 0.0
            # Before it is switched on anew, which may take its goal from it. One that a loss of
            # power has switched off grips nothing, and is to hold again all the same.
            with suppress(SafetyFault):
                is_gripping = -self._opens * self._servos.read().loads[0] > GRIPPING_LOAD
                squeeze_rad = -self._opens * SQUEEZE_RAD if is_gripping else 0.0
            self._servos.set_torque(True, self._safety.max_grip)
            self._command(float(self._servos.read().positions_rad[0]) + squeeze_rad)

    def checks(self) -> Iterator[CheckResult]:
        """Say what the motor measures of itself; nothing moves."""
        return check_servos(self._servos, self._watch)

    def temperature_c(self) -> float:
        """Return the motor's temperature, degrees Celsius."""
        return float(self._read().temperatures_c.max())

    def disconnect(self) -> None:
        """Let go of the bus; the motor stays as it is. May be called twice."""
        self._servos.close()

    def _drive(self, goal_rad: float) -> float:
        """Turn the jaw to ``goal_rad`` or until it stops; return the opening, metres.

        Raises:
            RobotError: it was still moving when it should have been there for long.
        """
        with self._gate.passing():
            # Each time: a loss of power may have switched it off.
            self._servos.set_torque(True, self._safety.max_grip)
            self._command(goal_rad)
        speed_rad_s = self._safety.max_joint_speed_rad_s
        cycles = max(STILL_CYCLES, 1 + math.ceil(2 * STILL_RAD / (speed_rad_s * CYCLE_S)))
        limit_s = self._way_rad() / speed_rad_s + cycles * CYCLE_S + MARGIN_S
        end_s = self._clock.monotonic_s() + limit_s
        seen: deque[float] = deque(maxlen=cycles)
        while len(seen) < cycles or max(seen) - min(seen) >= STILL_RAD:
            if self._clock.monotonic_s() > end_s:
                raise RobotError(
                    f"{self._name}: the gripper is still moving after {limit_s:.1f} s: does "
                    "something push it to and fro, or is its linkage broken?"
                )
            self._beat()
            self._clock.sleep(CYCLE_S)
            with self._gate.passing():
                readings = self._read()
            seen.append(float(readings.positions_rad[0]))
        self._watch.note_success()
        return self._opening_at(readings)

    def _way_rad(self) -> float:
        """Return the longest way that the jaw may be sent."""
        scale = self._calibrated()
        return abs(scale.open_rad - scale.closed_rad) + SQUEEZE_RAD

    def _command(self, goal_rad: float) -> None:
        self._servos.command(
            np.array([goal_rad]),
            speeds_rad_s=np.array([self._safety.max_joint_speed_rad_s]),
            accelerations_rad_s2=np.array([ACCELERATION_RAD_S2]),
        )

    def _read(self) -> ServoReadings:
        readings = self._servos.read()
        self._watch.check(readings)
        return readings

    def _opening_at(self, readings: ServoReadings) -> float:
        turn_rad = self._opens * (float(readings.positions_rad[0]) - self._calibrated().closed_rad)
        return self._linkage.opening_m(turn_rad)

    @property
    def _opens(self) -> float:
        """1 where the motor's counts grow as the jaw opens, else -1; 0 while it is not known."""
        if self._scale is None:
            return 0.0
        return math.copysign(1.0, self._scale.open_rad - self._scale.closed_rad)

    def _calibrated(self) -> GripperScale:
        if self._scale is None:
            raise ConfigurationError("the gripper is not calibrated; run `robot-agent calibrate`")
        return self._scale
