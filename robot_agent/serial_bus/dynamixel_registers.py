"""What is used of the memory of Dynamixel's X series: addresses and sizes.

Registers below 64 survive a loss of power, and are written only while the torque is off.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from robot_agent.serial_bus.servo_bus import check_fits


@dataclass(frozen=True, slots=True)
class DynamixelRegister:
    """One, two or four bytes of memory, little-endian, two's complement; see servo_bus.Register."""

    address: int
    size: int = 1
    is_signed: bool = False

    def encode(self, value: int) -> bytes:
        """Return ``value`` as the motor keeps it; ValueError if it does not fit."""
        span = 1 << 8 * self.size
        low = -span // 2 if self.is_signed else 0
        check_fits(value, low, low + span - 1)
        return value.to_bytes(self.size, "little", signed=self.is_signed)

    def decode(self, data: bytes) -> int:
        """Return the value of the register's bytes."""
        return int.from_bytes(data[: self.size], "little", signed=self.is_signed)


class HardwareError(IntFlag):
    """Bits of ``HARDWARE_ERROR``; a motor that sets one lets go until it is restarted."""

    VOLTAGE = 0x01
    OVERHEATED = 0x04
    ENCODER = 0x08
    ELECTRICAL_SHOCK = 0x10
    OVERLOAD = 0x20


MODEL = DynamixelRegister(0, 2)
DRIVE_MODE = DynamixelRegister(10)
TIME_BASED_PROFILE = 0x04
"""Bit of ``DRIVE_MODE`` that makes times of profile velocity and acceleration."""
OPERATING_MODE = DynamixelRegister(11)
POSITION_MODE, CURRENT_BASED_POSITION_MODE = 3, 5
HOMING_OFFSET = DynamixelRegister(20, 4, is_signed=True)
PWM_LIMIT = DynamixelRegister(36, 2)
CURRENT_LIMIT = DynamixelRegister(38, 2)

TORQUE_ENABLE = DynamixelRegister(64)
HARDWARE_ERROR = DynamixelRegister(70)
GOAL_PWM = DynamixelRegister(100, 2, is_signed=True)
"""The most that position control may use, in steps of 0.113 %."""
GOAL_CURRENT = DynamixelRegister(102, 2, is_signed=True)
"""The most that current-based position control may use."""
PROFILE_ACCELERATION = DynamixelRegister(108, 4)
"""Steps of 214.577 rev/min^2; 0 knows no limit."""
PROFILE_VELOCITY = DynamixelRegister(112, 4)
"""Steps of 0.229 rev/min; 0 knows no limit."""
GOAL_POSITION = DynamixelRegister(116, 4, is_signed=True)
PRESENT_CURRENT = DynamixelRegister(126, 2, is_signed=True)
"""In motors that measure none, the load in steps of 0.1 %."""
PRESENT_VELOCITY = DynamixelRegister(128, 4, is_signed=True)
PRESENT_POSITION = DynamixelRegister(132, 4, is_signed=True)
PRESENT_VOLTAGE = DynamixelRegister(144, 2)
"""Steps of 0.1 V."""
PRESENT_TEMPERATURE = DynamixelRegister(146)

COUNTS_PER_TURN = 4096
MIDDLE = 2048

MODELS_WITH_CURRENT = {
    1000: "XH430-W350",
    1010: "XH430-W210",
    1020: "XM430-W350",
    1030: "XM430-W210",
    1040: "XH430-V350",
    1050: "XH430-V210",
    1100: "XH540-W270",
    1110: "XH540-W150",
    1120: "XM540-W270",
    1130: "XM540-W150",
    1190: "XL330-M077",
    1200: "XL330-M288",
    1210: "XC330-T181",
    1220: "XC330-T288",
    1230: "XC330-M181",
    1240: "XC330-M288",
}
"""Models, by number, that measure and limit their current."""
MODELS_WITHOUT_CURRENT = {
    1060: "XL430-W250",
    1070: "XC430-W150",
    1080: "XC430-W240",
    1090: "2XL430-W250",
    1160: "2XC430-W250",
}
"""Models, by number, that know no current; their PWM is limited instead."""
