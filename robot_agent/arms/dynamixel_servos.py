"""Dynamixel motors of the X series as the motors of an arm."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError, SafetyFault
from robot_agent.arms.servo_group import ServoFault, ServoReadings
from robot_agent.arms.servo_identity import ServoIdentity
from robot_agent.serial_bus import dynamixel_registers as registers
from robot_agent.serial_bus.dynamixel import DynamixelBus
from robot_agent.serial_bus.dynamixel_registers import DynamixelRegister, HardwareError
from robot_agent.serial_bus.port import BusCounters
from robot_agent.serial_bus.register_span import RegisterSpan, SpanReadings

RAD_PER_COUNT = 2 * math.pi / registers.COUNTS_PER_TURN
RAD_S_PER_STEP = 0.229 * 2 * math.pi / 60
RAD_S2_PER_STEP = 214.577 * 2 * math.pi / 3600
LONGEST_PROFILE = 32_767
FULL_LOAD = 1000
"""What a motor without current sensor calls all it can."""

_KEPT = RegisterSpan(registers.MODEL, registers.HOMING_OFFSET)
_SWITCHES = RegisterSpan(registers.TORQUE_ENABLE, registers.HARDWARE_ERROR)
_MEASURED = RegisterSpan(registers.GOAL_POSITION, registers.PRESENT_TEMPERATURE)
_LIMITS = RegisterSpan(registers.PWM_LIMIT, registers.CURRENT_LIMIT)
_FAULTS = {
    HardwareError.VOLTAGE: ServoFault.VOLTAGE,
    HardwareError.OVERHEATED: ServoFault.OVERHEATED,
    HardwareError.ENCODER: ServoFault.SENSOR,
    HardwareError.ELECTRICAL_SHOCK: ServoFault.OVERCURRENT,
    HardwareError.OVERLOAD: ServoFault.OVERLOAD,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Motor:
    """How the torque of one motor is limited and measured."""

    servo_id: int
    mode: int
    effort: DynamixelRegister
    """What limits the torque in that mode."""
    most_effort: int
    full_load: int

    def limit(self, share: float) -> int:
        """Return what to write for a share of the stall torque; never 0, which lets go."""
        return max(1, round(self.most_effort * min(share, 1.0)))


class DynamixelServos:
    """A ServoGroup of motors on a bus, which other groups may share.

    Motors that measure their current run in current-based position control, where the current is
    limited; the others in position control, where the PWM is.
    """

    def __init__(self, bus: DynamixelBus, servo_ids: Sequence[int]) -> None:
        self._bus = bus
        self._ids = list(servo_ids)
        self._motors: list[_Motor] = []
        self._is_held = False

    @property
    def counters(self) -> BusCounters:
        """What happened on the bus so far."""
        return self._bus.counters

    def check_models(self) -> None:
        """See that every motor is there and of the X series.

        Raises:
            ConfigurationError: one is of another series.
            RobotError: one does not answer.
        """
        models = RegisterSpan(registers.MODEL, registers.MODEL).read(self._bus, self._ids)
        limits = _LIMITS.read(self._bus, self._ids)
        self._motors = [self._motor(one, models, limits) for one in self._ids]

    def identities(self) -> tuple[ServoIdentity, ...]:
        """Read which motors they are, and how they turn and shift their readings."""
        kept = _KEPT.read(self._bus, self._ids)
        return tuple(
            ServoIdentity(
                servo_id=one,
                model=kept.value(one, registers.MODEL),
                homing_offset=kept.value(one, registers.HOMING_OFFSET),
                drive_mode=kept.value(one, registers.DRIVE_MODE),
            )
            for one in self._ids
        )

    def read(self) -> ServoReadings:
        """Measure all motors, in two transactions.

        Raises:
            SafetyFault: a motor that should hold has let go.
            RobotError: a motor does not answer, or the cable is out.
        """
        motors = self._known_motors()
        switches = _SWITCHES.read(self._bus, self._ids)
        measured = _MEASURED.read(self._bus, self._ids)
        read_at_ns = time.time_ns()
        faults = tuple(_faults(switches.value(one, registers.HARDWARE_ERROR)) for one in self._ids)
        if self._is_held:
            self._check_hold(switches, faults)
        full_loads = np.array([motor.full_load for motor in motors], np.float64)
        counts = measured.values(registers.PRESENT_POSITION) - registers.MIDDLE
        goals = measured.values(registers.GOAL_POSITION) - registers.MIDDLE
        is_on = switches.values(registers.TORQUE_ENABLE) == 1
        return ServoReadings(
            positions_rad=counts * RAD_PER_COUNT,
            goals_rad=np.where(is_on, goals * RAD_PER_COUNT, np.nan),
            velocities_rad_s=measured.values(registers.PRESENT_VELOCITY) * RAD_S_PER_STEP,
            loads=np.clip(measured.values(registers.PRESENT_CURRENT) / full_loads, -1.0, 1.0),
            temperatures_c=measured.values(registers.PRESENT_TEMPERATURE),
            voltages_v=measured.values(registers.PRESENT_VOLTAGE) / 10,
            read_at_ns=read_at_ns,
            faults=faults,
        )

    def command(
        self,
        positions_rad: NDArray[np.float64],
        *,
        speeds_rad_s: NDArray[np.float64],
        accelerations_rad_s2: NDArray[np.float64],
    ) -> None:
        """Give all motors new goals in one transaction; see ServoGroup."""
        goals = np.rint(positions_rad / RAD_PER_COUNT) + registers.MIDDLE
        # To the motor 0 is no limit at all: the slowest that it knows is 1.
        speeds = np.clip(speeds_rad_s / RAD_S_PER_STEP, 1, LONGEST_PROFILE)
        steps = np.clip(accelerations_rad_s2 / RAD_S2_PER_STEP, 1, LONGEST_PROFILE)
        data = {}
        for servo_id, goal, speed, step in zip(self._ids, goals, speeds, steps, strict=True):
            data[servo_id] = (
                registers.PROFILE_ACCELERATION.encode(int(step))
                + registers.PROFILE_VELOCITY.encode(int(speed))
                + registers.GOAL_POSITION.encode(int(goal))
            )
        self._bus.sync_write(registers.PROFILE_ACCELERATION.address, data)

    def set_torque(self, enabled: bool, limit_share: float) -> None:
        """Switch all motors on or off and limit their torque; see ServoGroup.

        The limit reaches every motor that hears it, even if another one does not answer.

        Raises:
            ConfigurationError: a motor that holds already is in another mode, or one takes speeds
                for times.
            RobotError: a motor does not answer, or the cable is out.
        """
        motors = self._known_motors()
        self._limit_all(limit_share)
        switches = _SWITCHES.read(self._bus, self._ids)
        for motor in motors:
            is_on = bool(switches.value(motor.servo_id, registers.TORQUE_ENABLE))
            if enabled:
                self._choose_mode(motor, is_on=is_on)
            self._bus.write_register(motor.servo_id, motor.effort, motor.limit(limit_share))
            if enabled and not is_on:
                self._stay(motor)
            self._bus.write_register(motor.servo_id, registers.TORQUE_ENABLE, int(enabled))
        self._is_held = enabled

    def close(self) -> None:
        """Let go of the bus; the motors stay as they are. May be called twice."""
        self._bus.close()

    def _known_motors(self) -> list[_Motor]:
        if not self._motors:
            self.check_models()
        return self._motors

    def _motor(self, servo_id: int, models: SpanReadings, limits: SpanReadings) -> _Motor:
        model = models.value(servo_id, registers.MODEL)
        if model in registers.MODELS_WITH_CURRENT:
            most = limits.value(servo_id, registers.CURRENT_LIMIT)
            return _Motor(
                servo_id=servo_id,
                mode=registers.CURRENT_BASED_POSITION_MODE,
                effort=registers.GOAL_CURRENT,
                most_effort=most,
                full_load=max(1, most),
            )
        if model in registers.MODELS_WITHOUT_CURRENT:
            return _Motor(
                servo_id=servo_id,
                mode=registers.POSITION_MODE,
                effort=registers.GOAL_PWM,
                most_effort=limits.value(servo_id, registers.PWM_LIMIT),
                full_load=FULL_LOAD,
            )
        raise ConfigurationError(
            f"{self._bus.port.path}: servo {servo_id} is of model {model}, which is none of the X "
            "series that this driver knows"
        )

    def _choose_mode(self, motor: _Motor, *, is_on: bool) -> None:
        """Set how the motor is controlled, which it allows only while it is off."""
        servo_id = motor.servo_id
        drive = self._bus.read_register(servo_id, registers.DRIVE_MODE)
        if drive & registers.TIME_BASED_PROFILE:
            # Never written here: a second motor that obeys the same id turns the other way by it.
            raise ConfigurationError(
                f"{self._bus.port.path}: servo {servo_id} takes speeds for times (drive mode "
                f"{drive}): clear bit 2 of its drive mode with the maker's tool"
            )
        mode = self._bus.read_register(servo_id, registers.OPERATING_MODE)
        if mode == motor.mode:
            return
        if is_on:
            raise ConfigurationError(
                f"{self._bus.port.path}: servo {servo_id} holds in mode {mode} instead of "
                f"{motor.mode}: support the arm, switch its supply off and on, start again"
            )
        self._bus.write_register(servo_id, registers.OPERATING_MODE, motor.mode)

    def _limit_all(self, share: float) -> None:
        """Limit the torque of all at once; nobody answers."""
        for effort in (registers.GOAL_CURRENT, registers.GOAL_PWM):
            limits = {m.servo_id: m.limit(share) for m in self._motors if m.effort == effort}
            if limits:
                self._bus.sync_write_register(effort, limits)

    def _stay(self, motor: _Motor) -> None:
        """Make where the motor stands its goal."""
        position = self._bus.read_register(motor.servo_id, registers.PRESENT_POSITION)
        self._bus.write_register(motor.servo_id, registers.GOAL_POSITION, position)

    def _check_hold(
        self, switches: SpanReadings, faults: tuple[frozenset[ServoFault], ...]
    ) -> None:
        let_go = [
            f"{servo_id} ({', '.join(sorted(said))})" if said else str(servo_id)
            for servo_id, said in zip(self._ids, faults, strict=True)
            if not switches.value(servo_id, registers.TORQUE_ENABLE)
        ]
        if let_go:
            raise SafetyFault(
                f"{self._bus.port.path}: servo {', '.join(let_go)} switched itself off: its supply "
                "broke down or a protection tripped; look at the arm, switch its supply off and "
                "on, start again"
            )


def _faults(raw: int) -> frozenset[ServoFault]:
    return frozenset(fault for bit, fault in _FAULTS.items() if raw & bit)
