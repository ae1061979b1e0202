"""Feetech bus servos (STS3215) as the motors of an arm."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError, SafetyFault
from robot_agent.arms.servo_group import ServoFault, ServoReadings
from robot_agent.arms.servo_identity import ServoIdentity
from robot_agent.serial_bus import feetech_registers as registers
from robot_agent.serial_bus.feetech import FeetechBus, FeetechError
from robot_agent.serial_bus.feetech_registers import FeetechRegister
from robot_agent.serial_bus.port import BusCounters
from robot_agent.serial_bus.register_span import RegisterSpan, SpanReadings

logger = logging.getLogger(__name__)

RAD_PER_COUNT = 2 * math.pi / registers.COUNTS_PER_TURN
ACCELERATION_STEP = 100  # counts/s^2
MAKE_MIDDLE = 128
"""Written to the torque switch: see feetech_registers."""
FULL_LOAD = 1000

_MODEL = RegisterSpan(registers.MODEL, registers.MODEL)
_KEPT = RegisterSpan(registers.MODEL, registers.HOMING_OFFSET)
_MEASURED = RegisterSpan(registers.TORQUE_ENABLE, registers.PRESENT_TEMPERATURE)
_FAULTS = {
    FeetechError.VOLTAGE: ServoFault.VOLTAGE,
    FeetechError.ANGLE_SENSOR: ServoFault.SENSOR,
    FeetechError.OVERHEATED: ServoFault.OVERHEATED,
    FeetechError.OVERCURRENT: ServoFault.OVERCURRENT,
    FeetechError.OVERLOAD: ServoFault.OVERLOAD,
}


class FeetechServos:
    """A ServoGroup of servos on a bus, which other groups may share."""

    def __init__(self, bus: FeetechBus, servo_ids: Sequence[int]) -> None:
        self._bus = bus
        self._ids = list(servo_ids)
        self._is_held = False

    @property
    def counters(self) -> BusCounters:
        """What happened on the bus so far."""
        return self._bus.counters

    def check_models(self) -> None:
        """See that every motor is there and is what it should be.

        Raises:
            ConfigurationError: one is of another model.
            RobotError: one does not answer.
        """
        models = _MODEL.read(self._bus, self._ids)
        for servo_id in self._ids:
            model = models.value(servo_id, registers.MODEL)
            if model != registers.STS3215:
                raise ConfigurationError(
                    f"{self._bus.port.path}: servo {servo_id} is of model {model}, not an STS3215 "
                    f"({registers.STS3215})"
                )

    def identities(self) -> tuple[ServoIdentity, ...]:
        """Read which motors they are, and by how much they shift their readings."""
        kept = _KEPT.read(self._bus, self._ids)
        return tuple(
            ServoIdentity(
                servo_id=one,
                model=kept.value(one, registers.MODEL),
                homing_offset=kept.value(one, registers.HOMING_OFFSET),
            )
            for one in self._ids
        )

    def read(self) -> ServoReadings:
        """Measure all motors in one transaction.

        Raises:
            SafetyFault: a motor that should hold has let go.
            RobotError: a motor does not answer, or the cable is out.
        """
        measured = _MEASURED.read(self._bus, self._ids)
        read_at_ns = time.time_ns()
        if self._is_held:
            self._check_hold(measured)
        faults = tuple(_faults(packet.error) for packet in measured.packets.values())
        counts = measured.values(registers.PRESENT_POSITION) - registers.MIDDLE
        goals = measured.values(registers.GOAL_POSITION) - registers.MIDDLE
        is_on = measured.values(registers.TORQUE_ENABLE) == 1
        return ServoReadings(
            positions_rad=counts * RAD_PER_COUNT,
            goals_rad=np.where(is_on, goals * RAD_PER_COUNT, np.nan),
            velocities_rad_s=measured.values(registers.PRESENT_VELOCITY) * RAD_PER_COUNT,
            loads=np.clip(measured.values(registers.PRESENT_LOAD) / FULL_LOAD, -1.0, 1.0),
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
        # To the servo 0 is no limit at all: the slowest that it knows is 1.
        speeds = np.clip(speeds_rad_s / RAD_PER_COUNT, 1, 32_767)
        steps = np.clip(accelerations_rad_s2 / RAD_PER_COUNT / ACCELERATION_STEP, 1, 254)
        data = {}
        for servo_id, goal, speed, step in zip(self._ids, goals, speeds, steps, strict=True):
            data[servo_id] = (
                registers.ACCELERATION.encode(int(step))
                + registers.GOAL_POSITION.encode(int(goal))
                + registers.GOAL_TIME.encode(0)
                + registers.GOAL_VELOCITY.encode(int(speed))
            )
        self._bus.sync_write(registers.ACCELERATION.address, data)

    def set_torque(self, enabled: bool, limit_share: float) -> None:
        """Switch all motors on or off and limit their torque; see ServoGroup.

        The limit reaches every motor that hears it, even if another one does not answer.
        """
        limit = max(1, round(FULL_LOAD * min(limit_share, 1.0)))
        self._write_all(registers.TORQUE_LIMIT, limit)
        if enabled:
            self._stay_where_they_are()
        self._write_all(registers.TORQUE_ENABLE, int(enabled))
        measured = _MEASURED.read(self._bus, self._ids)
        self._see_to(measured, registers.TORQUE_LIMIT, limit)
        self._see_to(measured, registers.TORQUE_ENABLE, int(enabled))
        self._is_held = enabled

    def make_middle(self) -> None:
        """Let every motor read zero where it stands now; the motors go limp, and keep it."""
        for servo_id in self._ids:
            self._bus.write_register(servo_id, registers.TORQUE_ENABLE, MAKE_MIDDLE)
            self._bus.write_register(servo_id, registers.TORQUE_ENABLE, 0)
        self._is_held = False

    def close(self) -> None:
        """Let go of the bus; the motors stay as they are. May be called twice."""
        self._bus.close()

    def _write_all(self, register: FeetechRegister, value: int) -> None:
        self._bus.sync_write_register(register, dict.fromkeys(self._ids, value))

    def _see_to(self, measured: SpanReadings, register: FeetechRegister, value: int) -> None:
        """Write to those that missed what was written to all, and see that they took it."""
        for servo_id in self._ids:
            if measured.value(servo_id, register) != value:
                self._bus.write_register(servo_id, register, value)

    def _stay_where_they_are(self) -> None:
        """Let every motor that is off take where it stands as its goal: it would jump."""
        measured = _MEASURED.read(self._bus, self._ids)
        for servo_id in self._ids:
            if not measured.value(servo_id, registers.TORQUE_ENABLE):
                position = measured.value(servo_id, registers.PRESENT_POSITION)
                self._bus.write_register(servo_id, registers.GOAL_POSITION, position)

    def _check_hold(self, measured: SpanReadings) -> None:
        let_go = [one for one in self._ids if not measured.value(one, registers.TORQUE_ENABLE)]
        if let_go:
            lowest_v = measured.values(registers.PRESENT_VOLTAGE).min() / 10
            raise SafetyFault(
                f"{self._bus.port.path}: servo {', '.join(map(str, let_go))} switched itself off "
                f"(supply now {lowest_v:.1f} V): its supply broke down or its overload protection "
                "tripped; look at the arm and its supply, then start again"
            )


def _faults(error: int) -> frozenset[ServoFault]:
    return frozenset(fault for bit, fault in _FAULTS.items() if error & bit)
