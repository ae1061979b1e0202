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
from robot_agent.serial_bus import feetech_registers as registers
from robot_agent.serial_bus.feetech import FeetechBus, FeetechError
from robot_agent.serial_bus.packet_stream import StatusPacket

logger = logging.getLogger(__name__)

RAD_PER_COUNT = 2 * math.pi / registers.COUNTS_PER_TURN
ACCELERATION_STEP = 100  # counts/s^2
FIRST = registers.TORQUE_ENABLE.address
MEASURED_BYTES = registers.MOVING.address + 1 - FIRST
"""Everything from the torque switch to the moving flag, read in one packet per servo."""

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

    def check_models(self) -> None:
        """See that every motor is there and is what it should be.

        Raises:
            ConfigurationError: one is of another model.
            RobotError: one does not answer.
        """
        model = registers.MODEL
        for servo_id, packet in self._bus.sync_read(self._ids, model.address, model.size).items():
            number = model.decode(packet.parameters)
            if number != registers.STS3215:
                raise ConfigurationError(
                    f"{self._bus.port.path}: servo {servo_id} is of model {number}, not an STS3215 "
                    f"({registers.STS3215})"
                )

    def read(self) -> ServoReadings:
        """Measure all motors in one transaction.

        Raises:
            SafetyFault: a motor that should hold has let go.
            RobotError: a motor does not answer, or the cable is out.
        """
        packets = self._bus.sync_read(self._ids, FIRST, MEASURED_BYTES)
        read_at_ns = time.time_ns()
        if self._is_held:
            self._check_hold(packets)
        faults = tuple(_faults(packet) for packet in packets.values())
        return ServoReadings(
            positions_rad=_radians(_values(packets, registers.PRESENT_POSITION)),
            velocities_rad_s=_values(packets, registers.PRESENT_VELOCITY) * RAD_PER_COUNT,
            loads=np.clip(_values(packets, registers.PRESENT_LOAD) / 1000, -1.0, 1.0),
            temperatures_c=_values(packets, registers.PRESENT_TEMPERATURE),
            voltages_v=_values(packets, registers.PRESENT_VOLTAGE) / 10,
            moving=bool(_values(packets, registers.MOVING).any()),
            read_at_ns=read_at_ns,
            faults=faults if any(faults) else (),
        )

    def command(
        self,
        positions_rad: NDArray[np.float64],
        *,
        speeds_rad_s: NDArray[np.float64],
        accelerations_rad_s2: NDArray[np.float64],
    ) -> None:
        """Give all motors new goals in one transaction; see ServoGroup."""
        goals = _counts(positions_rad)
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
        """Switch all motors on or off and limit their torque; see ServoGroup."""
        limit = registers.TORQUE_LIMIT.encode(max(1, round(1000 * min(limit_share, 1.0))))
        if enabled:
            self._stay_where_they_are()
        for servo_id in self._ids:
            self._bus.write(servo_id, registers.TORQUE_LIMIT.address, limit)
            self._bus.write_register(servo_id, registers.TORQUE_ENABLE, int(enabled))
        self._is_held = enabled

    def close(self) -> None:
        """Let go of the bus; the motors stay as they are. May be called twice."""
        self._bus.close()

    def _stay_where_they_are(self) -> None:
        """Let every motor that is off take where it stands as its goal: it would jump."""
        packets = self._bus.sync_read(self._ids, FIRST, MEASURED_BYTES)
        for servo_id, packet in packets.items():
            if not _value(packet, registers.TORQUE_ENABLE):
                position = _value(packet, registers.PRESENT_POSITION)
                self._bus.write_register(servo_id, registers.GOAL_POSITION, position)

    def _check_hold(self, packets: dict[int, StatusPacket]) -> None:
        let_go = [
            servo_id
            for servo_id, packet in packets.items()
            if not _value(packet, registers.TORQUE_ENABLE)
        ]
        if let_go:
            lowest_v = _values(packets, registers.PRESENT_VOLTAGE).min() / 10
            raise SafetyFault(
                f"{self._bus.port.path}: servo {', '.join(map(str, let_go))} switched itself off "
                f"(supply now {lowest_v:.1f} V): its supply broke down or its overload protection "
                "tripped; look at the arm and its supply, then start again"
            )


def _radians(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return (counts - registers.MIDDLE) * RAD_PER_COUNT


def _counts(positions_rad: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(positions_rad / RAD_PER_COUNT).astype(np.int64) + registers.MIDDLE


def _faults(packet: StatusPacket) -> frozenset[ServoFault]:
    return frozenset(fault for bit, fault in _FAULTS.items() if packet.error & bit)


def _value(packet: StatusPacket, register: registers.FeetechRegister) -> int:
    return register.decode(packet.parameters[register.address - FIRST :])


def _values(
    packets: dict[int, StatusPacket], register: registers.FeetechRegister
) -> NDArray[np.float64]:
    return np.array([_value(packet, register) for packet in packets.values()], np.float64)
