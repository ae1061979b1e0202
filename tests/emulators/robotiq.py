"""A Robotiq 2F-85 at the bytes of its cable, written from the register map of its manual.

Modbus RTU slave 9. Inputs at 0x07D0, outputs at 0x03E8, three registers each.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SLAVE = 9
INPUTS, OUTPUTS = 0x07D0, 0x03E8
OPEN_AT, CLOSED_AT = 3, 230
"""The fingers' software limits, as a real one reads."""
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS = 1, 2


def crc(data: bytes) -> bytes:
    """Return the two bytes that end a frame."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            carry = register & 1
            register >>= 1
            if carry:
                register ^= 0xA001
    return register.to_bytes(2, "little")


@dataclass(kw_only=True)
class EmulatedRobotiq:
    """The gripper; ``hurry`` makes it faster than a real one."""

    hurry: float = 50.0
    object_at: int | None = None
    """Position at which the fingers meet something while closing."""
    fault: int = 0
    outputs: bytearray = field(default_factory=lambda: bytearray(6))
    """Action, two reserved, position, speed, force: as last written."""
    writes: list[bytes] = field(default_factory=list)
    """Every value of the outputs, in the order of arrival."""
    activations: int = 0
    position: float = 120.0
    _activating_left_s: float | None = None
    _is_active: bool = False
    _object: int = 0
    _now_s: float | None = None
    _buffer: bytearray = field(default_factory=bytearray)

    def receive(self, data: bytes, now_s: float) -> bytes:
        """Take bytes of requests; return the answers."""
        self._pass_time(now_s)
        self._buffer += data
        answers = b""
        while (length := self._length_of_request()) and len(self._buffer) >= length:
            frame = bytes(self._buffer[:length])
            del self._buffer[:length]
            if frame[0] == SLAVE and crc(frame[:-2]) == frame[-2:]:
                reply = self._answer(frame[1], frame[2:-2])
                answers += reply + crc(reply)
            else:
                # The frame's end is unknown now; a real one waits for silence.
                self._buffer.clear()
        return answers

    def tick(self, now_s: float) -> bytes:
        """Move."""
        self._pass_time(now_s)
        return b""

    def power_cycle(self) -> None:
        """Lose supply for a moment: what was activated is not any more."""
        self._is_active, self._activating_left_s, self._object = False, None, 0
        self.outputs = bytearray(6)

    def _length_of_request(self) -> int:
        if len(self._buffer) < 7:
            return 0
        return 9 + self._buffer[6] if self._buffer[1] == 16 else 8

    def _answer(self, function: int, body: bytes) -> bytes:
        head = bytes([SLAVE, function])
        at, count = int.from_bytes(body[:2]), int.from_bytes(body[2:4])
        if function in (3, 4):
            held = {INPUTS: self._inputs(), OUTPUTS: bytes(self.outputs)}
            for start, values in held.items():
                if start <= at and at + count <= start + 3 and count:
                    part = values[2 * (at - start) : 2 * (at - start + count)]
                    return head + bytes([len(part)]) + part
            return bytes([SLAVE, function | 0x80, _ILLEGAL_ADDRESS])
        if function == 16:
            if not (at >= OUTPUTS and at + count <= OUTPUTS + 3 and body[4] == 2 * count):
                return bytes([SLAVE, function | 0x80, _ILLEGAL_ADDRESS])
            start = 2 * (at - OUTPUTS)
            self.outputs[start : start + 2 * count] = body[5:]
            self._obey()
            return head + body[:4]
        return bytes([SLAVE, function | 0x80, _ILLEGAL_FUNCTION])

    def _obey(self) -> None:
        self.writes.append(bytes(self.outputs))
        action = self.outputs[0]
        if not action & 1:
            self._is_active, self._activating_left_s = False, None
            self.fault = 0
        elif not self._is_active and self._activating_left_s is None:
            self.activations += 1
            self._activating_left_s = 1.5
        if self._is_active and action & 8:
            self._object = 0

    def _pass_time(self, now_s: float) -> None:
        passed_s = 0.0 if self._now_s is None else (now_s - self._now_s) * self.hurry
        self._now_s = now_s
        if self._activating_left_s is not None:
            self._activating_left_s -= passed_s
            if self._activating_left_s <= 0:
                self._activating_left_s, self._is_active = None, True
                self.position = OPEN_AT
        elif self._is_active and self.outputs[0] & 8 and self._object == 0 and not self.fault:
            self._move(passed_s)

    def _move(self, passed_s: float) -> None:
        wanted = min(max(self.outputs[3], OPEN_AT), CLOSED_AT)
        closing = wanted > self.position
        # 20 to 150 mm/s over a stroke of 85 mm.
        step = passed_s * (20 + 130 * self.outputs[4] / 255) * 255 / 85
        way = min(step, abs(wanted - self.position))
        reached = self.position + (way if closing else -way)
        if closing and self.object_at is not None and reached >= self.object_at:
            self.position, self._object = max(self.position, float(self.object_at)), 2
            return
        self.position = reached
        if reached == wanted:
            self._object = 3

    def _inputs(self) -> bytes:
        stage = 3 if self._is_active else 1 if self._activating_left_s is not None else 0
        status = self.outputs[0] & 0x09 | stage << 4
        status |= self._object << 6 if self._is_active and self.outputs[0] & 8 else 0
        current = 12 if self._object == 0 and self._is_active else 0
        echo = self.outputs[3]
        return bytes([status, 0, self.fault, echo, round(self.position), current])
