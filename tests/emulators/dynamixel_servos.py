"""Dynamixel X motors on one half-duplex line, written from the description of protocol 2.0.

python -m tests.emulators.dynamixel_servos LINK [--ids 1 2 3 4 5 6]
"""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import dataclass, field

from tests.emulators.servo_line import EmulatedLine, serve_until_stdin_ends
from tests.emulators.servo_mechanics import Drive, Shaft

RAD = 2 * math.pi / 4096
RAD_S = 0.229 / 60 * 2 * math.pi
RAD_S2 = 214.577 / 3600 * 2 * math.pi
EEPROM_END = 64
BROADCAST = 254
FASTEST_RAD_S, FASTEST_RAD_S2 = 4.8, 80.0
CURRENT_MODELS = {1020, 1190, 1200}
FAILED, NO_SUCH_INSTRUCTION, BAD_CRC, OUT_OF_RANGE, NO_ACCESS = 1, 2, 3, 4, 7
POSITION, CURRENT_BASED_POSITION = 3, 5
OVERLOADED_S = 2.0


@dataclass(kw_only=True)
class DynamixelServo:
    """One motor: its memory, and the electronics that keep it."""

    servo_id: int
    model: int = 1020
    temperature_c: float = 30.0
    is_missing: bool = False
    memory: bytearray = field(default_factory=lambda: bytearray(256))
    shaft: Shaft = field(default_factory=Shaft)
    _overloaded_s: float = 0.0

    def __post_init__(self) -> None:
        memory = self.memory
        struct.pack_into("<HIB", memory, 0, self.model, 0, 45)
        memory[7:14] = bytes((self.servo_id, 3, 0, 0, POSITION, 255, 0))
        struct.pack_into("<BHHHH", memory, 31, 80, 160, 65, 885, 1193)
        struct.pack_into("<III", memory, 44, 330, 4095, 0)
        memory[63] = 52
        self.reset()

    def reset(self) -> None:
        """Start as after a loss of power: off, and with a goal that is somewhere else."""
        self.memory[EEPROM_END:] = bytes(len(self.memory) - EEPROM_END)
        self.memory[68] = 2
        self.memory[100:102] = self.memory[36:38]
        self.memory[102:104] = self.memory[38:40]
        self._overloaded_s = 0.0

    def home(self, offset: int) -> None:
        """Shift what it reads by so many counts, as its maker's tool does."""
        struct.pack_into("<i", self.memory, 20, offset)

    def write(self, address: int, data: bytes) -> int:
        """Take what the line says; return the number of the error, 0 for none."""
        end = address + len(data)
        if end > len(self.memory):
            return NO_ACCESS
        if address < EEPROM_END and self.memory[64]:
            return NO_ACCESS
        if address <= 102 < end and self._current_limit < abs(
            struct.unpack_from("<h", data, 102 - address)[0]
        ):
            return 6
        if address == 64 and data[:1] == b"\1" and self.memory[70]:
            return FAILED
        mode = self.memory[11]
        self.memory[address:end] = data
        if self.memory[11] != mode:
            # Another mode takes the limits of the motor for its own.
            self.memory[100:102] = self.memory[36:38]
            self.memory[102:104] = self.memory[38:40]
        return 0

    def overload(self) -> None:
        """Order the fault that a blocked motor gets after a while."""
        self._fail(0x20)

    def drive(self) -> Drive:
        """Return what the motor is told to do."""
        acceleration, velocity, goal = struct.unpack_from("<IIi", self.memory, 108)
        pwm, current = struct.unpack_from("<hh", self.memory, 100)
        torque = abs(pwm) / 885
        if self.memory[11] == CURRENT_BASED_POSITION:
            torque = min(torque, abs(current) / self._current_limit)
        return Drive(
            is_on=self.memory[64] == 1,
            goal_rad=(goal - 2048 - self._offset) * RAD,
            max_speed_rad_s=min(velocity * RAD_S or FASTEST_RAD_S, FASTEST_RAD_S),
            max_acceleration_rad_s2=min(acceleration * RAD_S2 or FASTEST_RAD_S2, FASTEST_RAD_S2),
            max_torque=torque,
        )

    def measure(self, shaft: Shaft, supply_v: float, dt_s: float) -> None:
        """Fill the registers of the present."""
        self.shaft = shaft
        memory = self.memory
        full = self._current_limit if self.model in CURRENT_MODELS else 1000
        struct.pack_into("<h", memory, 126, round(shaft.load * full))
        struct.pack_into("<i", memory, 128, round(shaft.velocity_rad_s / RAD_S))
        position = round(shaft.position_rad / RAD) + 2048 + self._offset
        struct.pack_into("<i", memory, 132, position)
        struct.pack_into("<H", memory, 144, round(supply_v * 10))
        memory[122] = abs(shaft.velocity_rad_s) > RAD_S
        memory[146] = round(self.temperature_c)
        self._protect(dt_s, abs(shaft.load))

    @property
    def alert(self) -> int:
        """The bit of every answer's error byte that tells of a hardware error."""
        return 0x80 if self.memory[70] else 0

    @property
    def _current_limit(self) -> int:
        return struct.unpack_from("<H", self.memory, 38)[0]

    @property
    def _offset(self) -> int:
        return struct.unpack_from("<i", self.memory, 20)[0]

    def _protect(self, dt_s: float, load: float) -> None:
        highest, lowest = struct.unpack_from("<HH", self.memory, 32)
        if not lowest <= struct.unpack_from("<H", self.memory, 144)[0] <= highest:
            self.memory[70] |= 0x01
        if self.temperature_c > self.memory[31]:
            self._fail(0x04)
        is_loaded = bool(self.memory[64]) and load > 0.9
        self._overloaded_s = self._overloaded_s + dt_s if is_loaded else 0.0
        if self._overloaded_s > OVERLOADED_S:
            self._fail(0x20)

    def _fail(self, bit: int) -> None:
        self.memory[70] |= bit
        if self.memory[63] & bit:
            self.memory[64] = 0


class DynamixelLine(EmulatedLine[DynamixelServo]):
    """The line that all motors hang on."""

    def _next_request(self) -> bytes | None:
        """Cut the next whole request out of what arrived: id, then instruction to the end."""
        while (start := self._arrived.find(b"\xff\xff\xfd\x00")) >= 0:
            del self._arrived[:start]
            if len(self._arrived) < 10:
                return None
            target, length = struct.unpack_from("<BH", self._arrived, 4)
            if not 3 <= length <= 1024:
                del self._arrived[:1]
                continue
            if len(self._arrived) < 7 + length:
                return None
            packet = bytes(self._arrived[: 7 + length])
            if _checksum(packet[:-2]) == packet[-2] | packet[-1] << 8:
                del self._arrived[: len(packet)]
                return bytes((target,)) + _without_stuffing(packet[7:-2])
            del self._arrived[:1]
        return None

    def _obey(self, request: bytes) -> bytes:
        target, instruction, parameters = request[0], request[1], request[2:]
        if instruction == 0x82:
            address, length = struct.unpack_from("<HH", parameters)
            return b"".join(self._read(one, address, length) for one in parameters[4:])
        if instruction == 0x83:
            address, length = struct.unpack_from("<HH", parameters)
            for at in range(4, len(parameters), length + 1):
                if (servo := self.servos.get(parameters[at])) is not None:
                    servo.write(address, parameters[at + 1 : at + 1 + length])
            return b""
        if target == BROADCAST and instruction == 1:
            return b"".join(self._ping(one) for one in sorted(self.servos))
        if instruction == 1:
            return self._ping(target)
        if instruction == 2:
            return self._read(target, *struct.unpack("<HH", parameters))
        if instruction == 3 and target in self.servos:
            address = struct.unpack_from("<H", parameters)[0]
            return self._answer(target, self.servos[target].write(address, parameters[2:]))
        if instruction == 8 and target in self.servos:
            answer = self._answer(target, 0)
            self.servos[target].reset()
            return answer
        return self._answer(target, NO_SUCH_INSTRUCTION)

    def _ping(self, servo_id: int) -> bytes:
        servo = self.servos.get(servo_id)
        return self._answer(servo_id, 0, servo.memory[0:2] + servo.memory[6:7]) if servo else b""

    def _read(self, servo_id: int, address: int, length: int) -> bytes:
        servo = self.servos.get(servo_id)
        if servo is None:
            return b""
        if address + length > len(servo.memory):
            return self._answer(servo_id, NO_ACCESS)
        return self._answer(servo_id, 0, servo.memory[address : address + length])

    def _answer(self, servo_id: int, error: int, parameters: bytes = b"") -> bytes:
        servo = self.servos.get(servo_id)
        if servo is None or servo.is_missing:
            return b""
        body = _with_stuffing(bytes((0x55, error | servo.alert)) + parameters)
        packet = b"\xff\xff\xfd\x00" + struct.pack("<BH", servo_id, len(body) + 2) + body
        return packet + struct.pack("<H", _checksum(packet))


def _checksum(data: bytes) -> int:
    """CRC-16 bit by bit, as the description defines it."""
    crc = 0
    for byte in data:
        for bit in range(7, -1, -1):
            carry = crc >> 15 ^ byte >> bit & 1
            crc = crc << 1 & 0xFFFF ^ (0x8005 if carry else 0)
    return crc


def _with_stuffing(body: bytes) -> bytes:
    stuffed = bytearray()
    for byte in body:
        stuffed.append(byte)
        if stuffed[-3:] == b"\xff\xff\xfd":
            stuffed.append(0xFD)
    return bytes(stuffed)


def _without_stuffing(body: bytes) -> bytes:
    plain = bytearray()
    is_stuffed = False
    for byte in body:
        if is_stuffed and byte == 0xFD:
            is_stuffed = False
            continue
        plain.append(byte)
        is_stuffed = plain[-3:] == b"\xff\xff\xfd"
    return bytes(plain)


if __name__ == "__main__":
    sys.exit(
        serve_until_stdin_ends(
            lambda ids: DynamixelLine([DynamixelServo(servo_id=i) for i in ids], supply_v=12.0)
        )
    )
