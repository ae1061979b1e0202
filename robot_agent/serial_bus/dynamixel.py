"""Dynamixel's protocol 2.0, half-duplex, little-endian.

A packet is ``FF FF FD 00 ID LENGTH(2) INSTRUCTION parameters CRC(2)``; a status packet has
instruction 0x55 and an error byte before its parameters. LENGTH counts everything after itself.
Where ``FF FF FD`` appears in what LENGTH counts, another FD is stuffed behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import partial

from protocol.errors import RobotError
from robot_agent.serial_bus.packet_stream import NoPacket, PacketStream, StatusPacket
from robot_agent.serial_bus.servo_bus import ServoBus

HEADER = b"\xff\xff\xfd\x00"
BROADCAST_ID, LAST_ID = 0xFE, 0xFC
READ, WRITE, STATUS, SYNC_READ, SYNC_WRITE = 0x02, 0x03, 0x55, 0x82, 0x83
MAX_PARAMETERS = 1000
ALERT = 0x80
"""Bit of the error byte: the motor's hardware error status says what is wrong."""
REFUSED = 0x7F
"""Bits of the error byte with the reason why an instruction was not carried out."""

_STUFFED = b"\xff\xff\xfd"
_REASONS = {
    1: "it failed",
    2: "it does not know the instruction",
    3: "it received a wrong checksum",
    4: "a value is out of range",
    5: "the data is too short",
    6: "a value is beyond a limit set in the motor",
    7: "the address cannot be used, or not while the torque is on",
}


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = crc << 1 ^ (0x8005 if crc & 0x8000 else 0)
        table.append(crc & 0xFFFF)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes) -> int:
    """Return the checksum of a packet up to its last parameter (polynomial 0x8005, from 0 on)."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _CRC[crc >> 8 ^ byte]
    return crc


def encode(target_id: int, instruction: int, parameters: bytes = b"") -> bytes:
    """Return the packet of one instruction.

    Raises:
        ValueError: id or parameters do not fit into a packet.
    """
    if not (0 <= target_id <= LAST_ID or target_id == BROADCAST_ID):
        raise ValueError(f"id {target_id} is not within 0 and {LAST_ID}")
    if len(parameters) > MAX_PARAMETERS:
        raise ValueError(f"{len(parameters)} bytes exceed {MAX_PARAMETERS} in one packet")
    body = (bytes((instruction,)) + parameters).replace(_STUFFED, _STUFFED + b"\xfd")
    packet = HEADER + struct.pack("<BH", target_id, len(body) + 2) + body
    return packet + crc16(packet).to_bytes(2, "little")


def parse_status(
    data: bytes, start: int, *, max_parameters: int = MAX_PARAMETERS
) -> StatusPacket | NoPacket:
    """Return the status packet whose header is at ``start``; one that is longer is none."""
    if len(data) < start + 11:
        return NoPacket.INCOMPLETE
    servo_id, length, instruction = struct.unpack_from("<BHB", data, start + 4)
    longest = (max_parameters + 2) * 4 // 3 + 2
    if servo_id > LAST_ID or instruction != STATUS or not 4 <= length <= longest:
        return NoPacket.NOT_A_STATUS
    end = start + 7 + length
    if len(data) < end:
        return NoPacket.INCOMPLETE
    if crc16(data[start : end - 2]) != int.from_bytes(data[end - 2 : end], "little"):
        return NoPacket.WRONG_CHECKSUM
    body = data[start + 8 : end - 2].replace(_STUFFED + b"\xfd", _STUFFED)
    return StatusPacket(servo_id, body[0], body[1:], length + 7)


class DynamixelBus(ServoBus):
    """Dynamixel motors on one port. Their packets may carry the ALERT bit.

    Whatever is asked also raises RobotError when a motor refuses it.
    """

    refusal_bits = REFUSED

    def read(self, servo_id: int, address: int, length: int) -> StatusPacket:
        """Return bytes of a motor's memory; see ServoBus."""
        request = encode(servo_id, READ, struct.pack("<HH", address, length))
        return self._ask_one(servo_id, request, length)

    def write(self, servo_id: int, address: int, data: bytes) -> StatusPacket:
        """Write into a motor's memory; see ServoBus."""
        request = encode(servo_id, WRITE, struct.pack("<H", address) + data)
        return self._ask_one(servo_id, request, 0)

    def sync_read(
        self, servo_ids: Sequence[int], address: int, length: int
    ) -> dict[int, StatusPacket]:
        """Return the same bytes of several motors; see ServoBus."""

        def request(ids: Sequence[int]) -> bytes:
            return encode(BROADCAST_ID, SYNC_READ, struct.pack("<HH", address, length) + bytes(ids))

        packets = self._ask(request, servo_ids, length)
        for packet in packets.values():
            self._check_done(packet)
        return packets

    def sync_write(self, address: int, data: Mapping[int, bytes]) -> None:
        """Write the same registers of several motors, by id; see ServoBus."""
        (length,) = {len(each) for each in data.values()}
        each = b"".join(bytes((servo_id,)) + values for servo_id, values in data.items())
        parameters = struct.pack("<HH", address, length) + each
        self.port.send(encode(BROADCAST_ID, SYNC_WRITE, parameters))

    def _ask_one(self, servo_id: int, request: bytes, parameters: int) -> StatusPacket:
        packet = self._ask(lambda _: request, [servo_id], parameters)[servo_id]
        self._check_done(packet)
        return packet

    def _stream(self, parameters: int) -> PacketStream:
        return PacketStream(HEADER, partial(parse_status, max_parameters=parameters))

    def _check_done(self, packet: StatusPacket) -> None:
        number = packet.error & REFUSED
        if number:
            raise RobotError(
                f"{self.port.path}: servo {packet.servo_id} refused the request: "
                f"{_REASONS.get(number, f'error {number}')}"
            )
