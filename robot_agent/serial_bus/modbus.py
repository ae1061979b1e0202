"""Modbus RTU over a serial port: reading and writing the registers of one slave.

Frames are ``slave function data crc``; words are big-endian, the CRC little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from protocol.errors import RobotError
from robot_agent.serial_bus.named_errors import named_errors
from robot_agent.serial_bus.port import SerialPort

READ_INPUT, WRITE_MULTIPLE = 4, 16
TRIES = 3
ANSWER_S = 0.1
"""Slaves answer within milliseconds; USB adapters add some 16."""

_BUSY = 6
_REFUSALS = {
    1: "does not know this function",
    2: "has no such registers",
    3: "refuses the value",
    4: "failed while doing it",
    5: "is still at it",
    _BUSY: "is busy",
}


def crc16(data: bytes) -> bytes:
    """Return the two bytes that end a frame of ``data``."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xA001 if register & 1 else 0)
    return struct.pack("<H", register)


def read_request(slave: int, address: int, count: int) -> bytes:
    """Return the frame that asks for ``count`` input registers from ``address`` on."""
    frame = struct.pack(">BBHH", slave, READ_INPUT, address, count)
    return frame + crc16(frame)


def write_request(slave: int, address: int, values: Sequence[int]) -> bytes:
    """Return the frame that writes 16-bit ``values`` from ``address`` on."""
    count = len(values)
    head = struct.pack(">BBHHB", slave, WRITE_MULTIPLE, address, count, 2 * count)
    frame = head + struct.pack(f">{count}H", *values)
    return frame + crc16(frame)


class ModbusReply:
    """Finds the answer to one request in what arrives, also behind bytes that are none."""

    def __init__(self, request: bytes) -> None:
        slave, function, _, count = struct.unpack_from(">BBHH", request)
        if function == WRITE_MULTIPLE:
            self._head, self._length = request[:6], 8
        else:
            self._head, self._length = bytes([slave, function, 2 * count]), 5 + 2 * count
        self._refusal_head = bytes([slave, function | 0x80])
        self._received = bytearray()
        self.values: tuple[int, ...] = ()
        """What was read; nothing after a write."""
        self.refusal: int | None = None
        """Why the slave did not do it, as a Modbus exception code."""
        self.garbage_bytes = 0
        """Bytes before the answer; all bytes if there was none."""
        self.checksum_errors = 0
        """Frames that began as the answer does and whose CRC is wrong."""

    def feed(self, data: bytes) -> bool:
        """Take what arrived; True once the answer is there."""
        self._received += data
        self.checksum_errors = 0
        for at in range(len(self._received)):
            if self._is_answer(at):
                self.garbage_bytes = at
                return True
        self.garbage_bytes = len(self._received)
        return False

    def _is_answer(self, at: int) -> bool:
        for head, length in ((self._head, self._length), (self._refusal_head, 5)):
            frame = bytes(self._received[at : at + length])
            if not frame.startswith(head) or len(frame) < length:
                continue
            if crc16(frame[:-2]) != frame[-2:]:
                self.checksum_errors += 1
                continue
            self._take(frame[len(head) : -2], is_refusal=head == self._refusal_head)
            return True
        return False

    def _take(self, data: bytes, *, is_refusal: bool) -> None:
        if is_refusal:
            self.refusal = data[0]
        else:
            self.values = struct.unpack(f">{len(data) // 2}H", data)


class ModbusPort:
    """The registers of one slave. Everything is tried up to three times."""

    def __init__(self, port: SerialPort, *, slave: int, name: str) -> None:
        """Args: ``name`` is the robot's, for what is said of it."""
        self._port = port
        self._slave = slave
        self._name = name

    def open(self) -> None:
        """Open the port. Raises ConfigurationError or PortGoneError as SerialPort does."""
        with named_errors(self._name):
            self._port.open()

    def read_registers(self, address: int, count: int) -> tuple[int, ...]:
        """Return ``count`` input registers from ``address`` on.

        Raises:
            RobotError: no answer, a refusal, or the port is gone.
        """
        return self._ask(read_request(self._slave, address, count))

    def write_registers(self, address: int, values: Sequence[int]) -> None:
        """Write ``values`` from ``address`` on; writing them twice must do no harm.

        Raises:
            RobotError: no answer, a refusal, or the port is gone.
        """
        self._ask(write_request(self._slave, address, values))

    def close(self) -> None:
        """Let go of the port. May be called twice."""
        self._port.close()

    def _ask(self, request: bytes) -> tuple[int, ...]:
        counters = self._port.counters
        timeout_s = ANSWER_S + self._port.wire_s(256)
        reply = ModbusReply(request)
        for attempt in range(TRIES):
            counters.retries += attempt > 0
            reply = ModbusReply(request)
            with named_errors(self._name):
                answered = self._port.exchange(request, reply, timeout_s=timeout_s)
            counters.garbage_bytes += reply.garbage_bytes
            counters.checksum_errors += reply.checksum_errors
            if answered and reply.refusal is None:
                return reply.values
            if answered and reply.refusal != _BUSY:
                break
        raise self._failure(request, reply)

    def _failure(self, request: bytes, reply: ModbusReply) -> RobotError:
        asked = f"{self._name}: Modbus slave {self._slave} on {self._port.path}"
        if reply.refusal is not None:
            why = _REFUSALS.get(reply.refusal, "refuses")
            return RobotError(
                f"{asked} {why} (exception {reply.refusal}, function {request[1]}, "
                f"address 0x{request[2:4].hex().upper()}): is it the device that is configured?"
            )
        heard = f"{reply.garbage_bytes} bytes that are no answer" if reply.garbage_bytes else "none"
        return RobotError(
            f"{asked} gave no answer within {TRIES} tries (heard: {heard}): check its supply, "
            "the two data wires (A and B swapped?), slave number and baud rate"
        )
