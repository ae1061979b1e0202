"""Dynamixel motors of the X series as the motors of an arm."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError, SafetyFault
from robot_agent.arms.servo_group import ServoFault, ServoReadings
from robot_agent.serial_bus import dynamixel_registers as registers
from robot_agent.serial_bus.dynamixel import DynamixelBus
from robot_agent.serial_bus.dynamixel_registers import DynamixelRegister, HardwareError
from robot_agent.serial_bus.packet_stream import StatusPacket

RAD_PER_COUNT = 2 * math.pi / registers.COUNTS_PER_TURN
RAD_S_PER_STEP = 0.229 * 2 * math.pi / 60
RAD_S2_PER_STEP = 214.577 * 2 * math.pi / 3600
LONGEST_PROFILE = 32_767
FULL_LOAD = 1000
"""What a motor without current sensor calls all it can."""

_SWITCHES = registers.TORQUE_ENABLE.address, registers.HARDWARE_ERROR.address + 1
_MEASURED = registers.MOVING.address, registers.PRESENT_TEMPERATURE.address + 1
_FAULTS = {
    HardwareError.VOLTAGE: ServoFault.VOLTAGE,
    HardwareError.OVERHEATED: ServoFault.OVERHEATED,
    HardwareError.ENCODER: ServoFault.SENSOR,
    HardwareError.ELECTRICAL_SHOCK: ServoFault.OVERCURRENT,
    HardwareError.OVERLOAD: ServoFault.OVERLOAD,
}


class DynamixelServos:
    """A ServoGroup of motors on a bus, which other groups may share.

    Motors that measure their current run in current-based position control, where the current is
    limited; the others in position control, where the PWM is.
    """

    def __init__(self, bus: DynamixelBus, servo_ids: Sequence[int]) -> None:
        self._bus = bus
        self._ids = list(servo_ids)
        self._full_scales: dict[int, int] = {}
        self._is_held = False

    def check_models(self) -> None:
        """See that every motor is there and of the X series.

        Raises:
            ConfigurationError: one is of another series.
            RobotError: one does not answer.
        """
        self._learn_models()

    def read(self) -> ServoReadings:
        """Measure all motors, in two transactions.

        Raises:
            SafetyFault: a motor that should hold has let go.
            RobotError: a motor does not answer, or the cable is out.
        """
        full_scales = self._learn_models()
        switches = self._read_span(*_SWITCHES)
        measured = self._read_span(*_MEASURED)
        read_at_ns = time.time_ns()
        errors = [HardwareError(int(raw)) for raw in _values(switches, registers.HARDWARE_ERROR)]
        if self._is_held:
            self._check_hold(switches, errors)
        faults = tuple(_faults(error) for error in errors)
        loads = _values(measured, registers.PRESENT_CURRENT)
        loads /= [self._load_scale(one) for one in full_scales]
        return ServoReadings(
            positions_rad=(_values(measured, registers.PRESENT_POSITION) - registers.MIDDLE)
            * RAD_PER_COUNT,
            velocities_rad_s=_values(measured, registers.PRESENT_VELOCITY) * RAD_S_PER_STEP,
            loads=np.clip(loads, -1.0, 1.0),
            temperatures_c=_values(measured, registers.PRESENT_TEMPERATURE),
            voltages_v=_values(measured, registers.PRESENT_VOLTAGE) / 10,
            moving=bool(_values(measured, registers.MOVING).any()),
            read_at_ns=read_at_ns,
            faults=faults if any(faults) else (),
        )
