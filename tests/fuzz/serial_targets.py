"""What motors answer on a serial line: packets between noise, in any pieces."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from protocol.errors import RejectedMessageError
from robot_agent.serial_bus import dynamixel, feetech
from robot_agent.serial_bus.packet_stream import PacketStream, ParseStatus
from tests.fuzz.byte_mutation import mutate_bytes
from tests.fuzz.fuzz_target import FuzzTarget, Run

_MAX_BYTES = 2048


def _run(header: bytes, parse: ParseStatus) -> Run:
    """Return what cuts one input into packets: whole, and in pieces as the first byte says."""

    def run(data: bytes) -> str:
        pieces = data[0] % 16 + 1 if data else 1
        whole, torn = PacketStream(header, parse), PacketStream(header, parse)
        found = whole.feed(data) + whole.feed(b"", is_last=True)
        again = [
            one for at in range(0, len(data), pieces) for one in torn.feed(data[at : at + pieces])
        ]
        again += torn.feed(b"", is_last=True)
        taken = sum(packet.wire_bytes for packet in found)
        assert taken + whole.garbage_bytes == len(data)
        assert found == again
        assert torn.garbage_bytes == whole.garbage_bytes
        assert torn.checksum_errors == whole.checksum_errors
        if not found:
            raise RejectedMessageError(f"no packet, {min(whole.checksum_errors, 3)} wrong sums")
        sizes = {len(packet.parameters).bit_length() for packet in found}
        return f"{min(len(found), 4)} packets, sizes {sorted(sizes)}"

    return run


def _mutation(finish: Callable[[bytes], bytes], header: bytes) -> Callable[[bytes, Random], bytes]:
    """Return what changes one packet of an input; mostly its checksum is right afterwards."""

    def mutate(data: bytes, random: Random) -> bytes:
        starts = [at for at in range(len(data)) if data.startswith(header, at)]
        start = random.choice(starts)  # IndexError, a LookupError, without any
        end = next((at for at in starts if at > start), len(data))
        changed = mutate_bytes(data[start:end], random)
        if random.random() < 0.7:
            changed = finish(changed)
        return data[:start] + changed + data[end:]

    return mutate


def _finish_feetech(packet: bytes) -> bytes:
    if len(packet) < 6:
        raise ValueError("too short for a packet")
    body = packet[2:3] + bytes(((len(packet) - 4) % 256,)) + packet[4:-1]
    return feetech.HEADER + body + bytes((~sum(body) & 0xFF,))


def _finish_dynamixel(packet: bytes) -> bytes:
    if len(packet) < 11:
        raise ValueError("too short for a packet")
    body = dynamixel.HEADER + packet[4:5] + struct.pack("<H", len(packet) - 7) + packet[7:-2]
    return body + dynamixel.crc16(body).to_bytes(2, "little")


def _feetech_seeds() -> list[bytes]:
    answers = [feetech.encode(servo_id, 0, bytes(15)) for servo_id in (1, 2, 3)]
    return [answers[0], b"\x01".join(answers), feetech.encode(6, feetech.FeetechError.OVERLOAD)]


def _dynamixel_seeds() -> list[bytes]:
    status = dynamixel.STATUS
    answers = [dynamixel.encode(servo_id, status, bytes(26)) for servo_id in (1, 2, 3)]
    stuffed = dynamixel.encode(4, status, b"\x00\xff\xff\xfd\x00\xff\xff\xfd")
    return [answers[0], b"\x01".join(answers), stuffed, dynamixel.encode(6, status, b"\x87")]


SERIAL_TARGETS = [
    FuzzTarget(
        name="feetech_answers",
        prepare=lambda: _run(feetech.HEADER, feetech.parse_status),
        seeds=_feetech_seeds,
        mutate=_mutation(_finish_feetech, feetech.HEADER),
        max_bytes=_MAX_BYTES,
        share=0.5,
    ),
    FuzzTarget(
        name="dynamixel_answers",
        prepare=lambda: _run(dynamixel.HEADER, dynamixel.parse_status),
        seeds=_dynamixel_seeds,
        mutate=_mutation(_finish_dynamixel, dynamixel.HEADER),
        max_bytes=_MAX_BYTES,
        share=0.5,
    ),
]
