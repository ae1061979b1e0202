"""Feetech's half-duplex protocol for serial bus servos (STS series), little-endian.

A packet is ``FF FF ID LENGTH INSTRUCTION parameters CHECKSUM``; a status packet has the error byte
in the instruction's place. LENGTH counts parameters and two more bytes, CHECKSUM is the inverted
sum of everything from ID on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntFlag
from functools import partial

from robot_agent.serial_bus.packet_stream import NoPacket, PacketStream, StatusPacket
from robot_agent.serial_bus.servo_bus import ServoBus

HEADER = b"\xff\xff"
BROADCAST_ID, LAST_ID = 0xFE, 0xFD
READ, WRITE, SYNC_READ, SYNC_WRITE = 0x02, 0x03, 0x82, 0x83
MAX_PARAMETERS = 250


class FeetechError(IntFlag):
    """Bits of a status packet's error byte."""

    VOLTAGE = 0x01
    ANGLE_SENSOR = 0x02
    OVERHEATED = 0x04
    OVERCURRENT = 0x08
    OVERLOAD = 0x20


def encode(servo_id: int, instruction: int, parameters: bytes = b"") -> bytes:
    """Return the packet of one instruction.

    Raises:
        ValueError: id or parameters do not fit into a packet.
    """
    if not 0 <= servo_id <= BROADCAST_ID:
        raise ValueError(f"servo id {servo_id} is not within 0 and {BROADCAST_ID}")
    if len(parameters) > MAX_PARAMETERS:
        raise ValueError(f"{len(parameters)} bytes exceed {MAX_PARAMETERS} in one packet")
    body = bytes((servo_id, len(parameters) + 2, instruction)) + parameters
    return HEADER + body + bytes((~sum(body) & 0xFF,))


def parse_status(
    data: bytes, start: int, *, max_parameters: int = MAX_PARAMETERS
) -> StatusPacket | NoPacket:
    """Return the status packet whose header is at ``start``; one that is longer is none."""
    if len(data) < start + 6:
        return NoPacket.INCOMPLETE
    servo_id, length, error = data[start + 2 : start + 5]
    if servo_id > LAST_ID or not 2 <= length <= max_parameters + 2:
        return NoPacket.NOT_A_STATUS
    last = start + 3 + length
    if len(data) <= last:
        return NoPacket.INCOMPLETE
    if ~sum(data[start + 2 : last]) & 0xFF != data[last]:
        return NoPacket.WRONG_CHECKSUM
    return StatusPacket(servo_id, error, data[start + 5 : last], length + 4)


def to_sign_magnitude(value: int, sign_bit: int) -> int:
    """Return ``value`` as its magnitude with the sign in ``sign_bit``.

    Raises:
        ValueError: the magnitude needs that bit.
    """
    if abs(value) >= 1 << sign_bit:
        raise ValueError(f"{value} needs more than {sign_bit} bits")
    return -value | 1 << sign_bit if value < 0 else value


def from_sign_magnitude(raw: int, sign_bit: int) -> int:
    """Return the signed value of ``raw``."""
    magnitude = raw & ((1 << sign_bit) - 1)
    return -magnitude if raw >> sign_bit & 1 else magnitude


class FeetechBus(ServoBus):
    """Feetech servos on one port. Their packets carry FeetechError bits."""

    def read(self, servo_id: int, address: int, length: int) -> StatusPacket:
        """Return bytes of a servo's memory; see ServoBus."""
        return self._ask_one(servo_id, encode(servo_id, READ, bytes((address, length))), length)

    def write(self, servo_id: int, address: int, data: bytes) -> StatusPacket:
        """Write into a servo's memory; see ServoBus."""
        return self._ask_one(servo_id, encode(servo_id, WRITE, bytes((address,)) + data), 0)

    def sync_read(
        self, servo_ids: Sequence[int], address: int, length: int
    ) -> dict[int, StatusPacket]:
        """Return the same bytes of several servos; see ServoBus."""

        def request(ids: Sequence[int]) -> bytes:
            return encode(BROADCAST_ID, SYNC_READ, bytes((address, length, *ids)))

        return self._ask(request, servo_ids, length)

    def sync_write(self, address: int, data: Mapping[int, bytes]) -> None:
        """Write the same registers of several servos, by id; see ServoBus."""
        (length,) = {len(each) for each in data.values()}
        each = b"".join(bytes((servo_id,)) + values for servo_id, values in data.items())
        self.port.send(encode(BROADCAST_ID, SYNC_WRITE, bytes((address, length)) + each))

    def _ask_one(self, servo_id: int, request: bytes, parameters: int) -> StatusPacket:
        return self._ask(lambda _: request, [servo_id], parameters)[servo_id]

    def _stream(self, parameters: int) -> PacketStream:
        return PacketStream(HEADER, partial(parse_status, max_parameters=parameters))
