"""Neighbouring registers of several motors, read in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_agent.serial_bus.packet_stream import StatusPacket
from robot_agent.serial_bus.servo_bus import Register, ServoBus


@dataclass(frozen=True, slots=True)
class SpanReadings:
    """What the motors had in a span, in the order in which they were asked."""

    packets: Mapping[int, StatusPacket]
    """By motor."""
    first_address: int

    def value(self, servo_id: int, register: Register) -> int:
        """Return what one motor has in a register of the span."""
        at = register.address - self.first_address
        return register.decode(self.packets[servo_id].parameters[at : at + register.size])

    def values(self, register: Register) -> NDArray[np.float64]:
        """Return float64[N], what all have in a register of the span."""
        return np.array([self.value(one, register) for one in self.packets], np.float64)


@dataclass(frozen=True, slots=True)
class RegisterSpan:
    """All bytes from one register to another."""

    first: Register
    last: Register

    def read(self, bus: ServoBus, servo_ids: Sequence[int]) -> SpanReadings:
        """Read them from several motors at once.

        Raises:
            RobotError: a motor does not answer, or the cable is out.
        """
        address = self.first.address
        length = self.last.address + self.last.size - address
        return SpanReadings(bus.sync_read(servo_ids, address, length), address)
