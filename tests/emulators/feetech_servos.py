"""Feetech STS3215 servos on one half-duplex line, written from the description of the protocol.

python -m tests.emulators.feetech_servos LINK [--ids 1 2 3 4 5 6]
"""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import dataclass, field

from tests.emulators.servo_line import EmulatedLine, serve_until_stdin_ends
from tests.emulators.servo_mechanics import Drive, Shaft

RAD = 2 * math.pi / 4096
EEPROM_END = 40
BROADCAST = 254
FASTEST_COUNTS_S, FASTEST_COUNTS_S2 = 3000, 50_000
PROTECTED_S = 2.0
LOWEST_V, HIGHEST_V = 4.0, 8.0


@dataclass(kw_only=True)
class FeetechServo:
    """One servo: its memory, and the electronics that keep it."""

    servo_id: int
    temperature_c: float = 30.0
    has_sensor_fault: bool = False
    is_missing: bool = False
    is_babbling: bool = False
    """Its answers are bytes that mean nothing."""
    strains: int = 0
    """It is overloaded, whatever its goal, until its torque was limited anew so often."""
    memory: bytearray = field(default_factory=lambda: bytearray(128))
    shaft: Shaft = field(default_factory=Shaft)
    _kept: bytes = b""
    _overloaded_s: float = 0.0
    _is_overloaded: bool = False

    def __post_init__(self) -> None:
        memory = self.memory
        memory[0:2] = bytes((3, 10))
        struct.pack_into("<H", memory, 3, 777)
        memory[5:9] = bytes((self.servo_id, 0, 0, 1))
        struct.pack_into("<HHBBBH", memory, 9, 0, 4095, 70, int(HIGHEST_V * 10), 40, 1000)
        memory[21], memory[22] = 32, 32
        memory[34:37] = bytes((20, 200, 80))
        memory[55] = 1
        self._kept = bytes(memory[:EEPROM_END])
        self.reset()

    def reset(self) -> None:
        """Start as after a loss of power: off, and with a goal that is somewhere else."""
        self.memory[:EEPROM_END] = self._kept
        self.memory[EEPROM_END:] = bytes(len(self.memory) - EEPROM_END)
        self.memory[48:50] = self.memory[16:18]
        self.memory[55] = 1
        self._is_overloaded, self._overloaded_s = False, 0.0

    def write(self, address: int, data: bytes) -> None:
        """Take what the line says; the EEPROM keeps it only when it is not locked."""
        self.memory[address : address + len(data)] = data
        if self.memory[55] == 0:
            self._kept = bytes(self.memory[:EEPROM_END])
        if address <= 42 < address + len(data):
            # A new goal ends the protection against overload.
            self._is_overloaded, self._overloaded_s = False, 0.0
        if address <= 48 < address + len(data):
            self.strains = max(0, self.strains - 1)
        if self.memory[40] == 128:
            self._make_this_the_middle()

    def home(self, offset: int) -> None:
        """Shift what it reads by so many counts, as its maker's tool does, and keep that."""
        struct.pack_into("<H", self.memory, 31, _magnitude(offset, 11))
        self._kept = bytes(self.memory[:EEPROM_END])

    def overload(self) -> None:
        """Order the fault that a blocked motor gets after a while."""
        self._is_overloaded = True

    def drive(self) -> Drive:
        """Return what the motor is told to do."""
        goal, _, speed = struct.unpack_from("<HHH", self.memory, 42)
        low, high = struct.unpack_from("<HH", self.memory, 9)
        counts = min(max(_signed(goal, 15), low), high) if high > low else _signed(goal, 15)
        speed, steps = _signed(speed, 15), self.memory[41]
        torque = struct.unpack_from("<H", self.memory, 48)[0] / 1000
        if self._is_overloaded or self.strains:
            torque = min(torque, self.memory[34] / 100)
        return Drive(
            is_on=self.memory[40] == 1,
            goal_rad=(counts - 2048 + self._offset) * RAD,
            max_speed_rad_s=min(abs(speed) or FASTEST_COUNTS_S, FASTEST_COUNTS_S) * RAD,
            max_acceleration_rad_s2=(steps * 100 or FASTEST_COUNTS_S2) * RAD,
            max_torque=torque,
        )

    def measure(self, shaft: Shaft, supply_v: float, dt_s: float) -> None:
        """Fill the registers of the present."""
        self.shaft = shaft
        self._protect(dt_s, abs(shaft.load))
        raw = round(shaft.position_rad / RAD) + 2048 - self._offset
        memory = self.memory
        struct.pack_into("<H", memory, 56, _magnitude(raw, 15))
        struct.pack_into("<H", memory, 58, _magnitude(round(shaft.velocity_rad_s / RAD), 15))
        struct.pack_into("<H", memory, 60, _magnitude(round(shaft.load * 1000), 10))
        memory[62] = min(max(round(supply_v * 10), 0), 255)
        memory[63] = min(max(round(self.temperature_c), 0), 255)
        memory[66] = abs(shaft.velocity_rad_s) > RAD
        struct.pack_into("<H", memory, 69, _magnitude(round(shaft.load * 400), 15))

    @property
    def error(self) -> int:
        """The error byte of every answer."""
        memory = self.memory
        return (
            (not memory[15] <= memory[62] <= memory[14]) * 1
            | self.has_sensor_fault * 2
            | (memory[63] > memory[13]) * 4
            | (self._is_overloaded or self.strains > 0) * 32
        )

    @property
    def _offset(self) -> int:
        return _signed(struct.unpack_from("<H", self.memory, 31)[0], 11)

    def _protect(self, dt_s: float, load: float) -> None:
        if self.temperature_c > self.memory[13]:
            self.memory[40] = 0
        is_loaded = self.memory[40] == 1 and load >= self.memory[36] / 100
        self._overloaded_s = self._overloaded_s + dt_s if is_loaded else 0.0
        if self._overloaded_s > self.memory[35] / 100:
            self._is_overloaded = True

    def _make_this_the_middle(self) -> None:
        offset = round(self.shaft.position_rad / RAD)
        struct.pack_into("<H", self.memory, 31, _magnitude(offset, 11))
        self._kept = bytes(self.memory[:EEPROM_END])
        self.memory[40] = 0


class FeetechLine(EmulatedLine[FeetechServo]):
    """The line that all servos hang on."""

    def _next_request(self) -> bytes | None:
        """Cut the next whole request, header and checksum taken off, out of what arrived."""
        while (start := self._arrived.find(b"\xff\xff")) >= 0:
            del self._arrived[:start]
            if len(self._arrived) < 4:
                return None
            size = self._arrived[3] + 4
            if self._arrived[2] == 255 or self._arrived[3] < 2:
                del self._arrived[:1]
                continue
            if len(self._arrived) < size:
                return None
            body = bytes(self._arrived[2:size])
            if (sum(body) & 0xFF) == 0xFF:
                del self._arrived[:size]
                return body[:-1]
            del self._arrived[:1]
        return None

    def _obey(self, request: bytes) -> bytes:
        target, instruction, parameters = request[0], request[2], request[3:]
        if instruction == 0x82:
            address, length, ids = parameters[0], parameters[1], parameters[2:]
            return b"".join(self._answer(one, self._memory(one, address, length)) for one in ids)
        if instruction == 0x83:
            address, length, rest = parameters[0], parameters[1], parameters[2:]
            for at in range(0, len(rest), length + 1):
                if rest[at] in self.servos:
                    self.servos[rest[at]].write(address, rest[at + 1 : at + 1 + length])
            return b""
        servo = self.servos.get(target)
        if servo is None:
            return b""
        if instruction == 1:
            return self._answer(target, b"")
        if instruction == 2:
            return self._answer(target, self._memory(target, *parameters))
        if instruction == 3:
            servo.write(parameters[0], parameters[1:])
            return self._answer(target, b"") if servo.memory[8] else b""
        return b""

    def _memory(self, servo_id: int, address: int, length: int) -> bytes:
        servo = self.servos.get(servo_id)
        return bytes(servo.memory[address : address + length]) if servo else b""

    def _answer(self, servo_id: int, parameters: bytes) -> bytes:
        servo = self.servos.get(servo_id)
        if servo is None or servo.is_missing:
            return b""
        if servo.is_babbling:
            return bytes((0xA5, servo_id, 0xFF, 0x00)) * (1 + len(parameters) // 4)
        body = bytes((servo_id, len(parameters) + 2, servo.error)) + parameters
        return b"\xff\xff" + body + bytes((255 - sum(body) % 256,))


def _signed(raw: int, bit: int) -> int:
    return -(raw - (1 << bit)) if raw >= 1 << bit else raw


def _magnitude(value: int, bit: int) -> int:
    clipped = min(abs(value), (1 << bit) - 1)
    return clipped + (1 << bit) * (value < 0)


if __name__ == "__main__":
    sys.exit(
        serve_until_stdin_ends(lambda ids: FeetechLine([FeetechServo(servo_id=i) for i in ids]))
    )
