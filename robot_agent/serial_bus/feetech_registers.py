"""What is used of the memory of Feetech's STS3215: addresses, sizes and where the sign is.

Registers below 40 survive a loss of power; the one at 55 must be 0 to write them.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_agent.serial_bus.feetech import from_sign_magnitude, to_sign_magnitude
from robot_agent.serial_bus.servo_bus import check_fits


@dataclass(frozen=True, slots=True)
class FeetechRegister:
    """One or two bytes of memory, little-endian; see servo_bus.Register."""

    address: int
    size: int = 1
    sign_bit: int | None = None
    """Of a sign-magnitude number; None for one without sign."""

    def encode(self, value: int) -> bytes:
        """Return ``value`` as the servo keeps it; ValueError if it does not fit."""
        if self.sign_bit is not None:
            value = to_sign_magnitude(value, self.sign_bit)
        check_fits(value, 0, (1 << 8 * self.size) - 1)
        return value.to_bytes(self.size, "little")

    def decode(self, data: bytes) -> int:
        """Return the value of the register's bytes."""
        raw = int.from_bytes(data[: self.size], "little")
        return raw if self.sign_bit is None else from_sign_magnitude(raw, self.sign_bit)


MODEL = FeetechRegister(3, 2)
HOMING_OFFSET = FeetechRegister(31, 2, sign_bit=11)

TORQUE_ENABLE = FeetechRegister(40)
"""0 lets go, 1 holds; 128 makes where the shaft stands the middle of the scale."""
ACCELERATION = FeetechRegister(41)
"""Steps of 100 counts/s^2; 0 knows no limit."""
GOAL_POSITION = FeetechRegister(42, 2, sign_bit=15)
GOAL_TIME = FeetechRegister(44, 2)
GOAL_VELOCITY = FeetechRegister(46, 2, sign_bit=15)
"""Counts/s; 0 is as fast as it can."""
TORQUE_LIMIT = FeetechRegister(48, 2)
"""Steps of 0.1 % of the stall torque."""
PRESENT_POSITION = FeetechRegister(56, 2, sign_bit=15)
PRESENT_VELOCITY = FeetechRegister(58, 2, sign_bit=15)
PRESENT_LOAD = FeetechRegister(60, 2, sign_bit=10)
"""Steps of 0.1 % of the stall torque."""
PRESENT_VOLTAGE = FeetechRegister(62)
"""Steps of 0.1 V."""
PRESENT_TEMPERATURE = FeetechRegister(63)

STS3215 = 777
COUNTS_PER_TURN = 4096
MIDDLE = 2048
