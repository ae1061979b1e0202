"""Bytes from the cables of line-based devices and Modbus slaves, fed in pieces as they come.

The first byte of an input says into how many pieces the rest is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from protocol.errors import RejectedMessageError
from robot_agent.robots.gcode_dialect import major_version, position_m, value_of
from robot_agent.robots.robotiq_status import fault_error, parse_status
from robot_agent.robots.servo_gripper import parse_readings
from robot_agent.serial_bus.line_format import LineKind, sealed
from robot_agent.serial_bus.lines import LineReply
from robot_agent.serial_bus.modbus import ModbusReply, crc16, read_request, write_request
from tests.fuzz.byte_mutation import mutate_bytes
from tests.fuzz.fuzz_target import FuzzTarget

MAX_BYTES = 1024
NUMBER = 12


def _pieces(data: bytes) -> Iterator[bytes]:
    if len(data) < 2:
        raise RejectedMessageError("nothing came")
    size = max(1, (len(data) - 1) // (1 + data[0] % 8))
    for start in range(1, len(data), size):
        yield data[start : start + size]


def _collected(data: bytes, *, number: int | None, is_sealed: bool) -> LineReply:
    reply = LineReply(number=number, is_sealed=is_sealed)
    for piece in _pieces(data):
        if reply.feed(piece):
            break
    assert len(reply.rest) <= 256
    if reply.answer is None:
        damage = "damaged" if reply.checksum_errors else "garbage" if reply.garbage_bytes else ""
        raise RejectedMessageError(f"no answer {damage} {len(reply.unasked) > 0}")
    return reply


def _run_gcode(data: bytes) -> str:
    # Both kinds of controller: with numbers and without.
    number = NUMBER if data[:1] < b"\x80" else None
    answer = _collected(data, number=number, is_sealed=False).answer
    assert answer is not None
    place, value, major = position_m(answer), value_of(answer), major_version(answer)
    assert place is None or all(abs(axis) < 1e5 for axis in place)
    return f"{answer.kind} {place is None} {value is None} {major is None} {len(answer.notes) > 0}"


def _run_gripper(data: bytes) -> str:
    answer = _collected(data, number=NUMBER, is_sealed=True).answer
    assert answer is not None
    readings = parse_readings(answer.text) if answer.kind == LineKind.OK else None
    return f"{answer.kind} {readings and readings.motion.name}"


def _run_modbus(data: bytes) -> str:
    is_write = data[:1] >= b"\x80"
    request = write_request(9, 0x3E8, (1, 2, 3)) if is_write else read_request(9, 0x7D0, 3)
    reply = ModbusReply(request)
    *_, is_whole = [reply.feed(piece) for piece in _pieces(data)]
    if not is_whole:
        assert reply.values == ()
        raise RejectedMessageError(f"no answer {reply.checksum_errors > 0}")
    if reply.refusal is not None:
        return "refused"
    if is_write:
        return "written"
    status = parse_status(reply.values)
    return f"{status.stage} {status.contact} {fault_error('arm', status.fault)}"


def _gcode_seeds() -> list[bytes]:
    return [
        b"\x00$12 ok X154.71 Y194.91 Z10.21\r\n",
        b"\x03@5 V0\n$11 ok V1\n$12 ok V1\n",
        b"\x01$12 E22\n",
        b"\x85echo:busy: processing\nX:1.00 Y:2.00 Z:3.00 E:0.00 Count X:0 Y:0\nok\n",
        b"\x82ALARM:1\n",
        b"\x81FIRMWARE_NAME:Marlin 2.1.2\nok\n",
    ]


def _gripper_seeds() -> list[bytes]:
    texts = ["$12 ok F512 A120 P1500 M1", "$12 ok servo-gripper 1", "$12 error: no", "@1 hello"]
    lines = [f"{sealed(text)}\n".encode() for text in texts]
    return [b"\x00" + lines[0], b"\x02" + lines[3] + lines[1], b"\x01" + lines[2]]


def _modbus_seeds() -> list[bytes]:
    read = bytes.fromhex("0904 06 F900 0000 0D00 17AA")
    refused = bytes.fromhex("0984 02")
    return [
        b"\x00" + read,
        b"\x03\xff\x00" + read,
        b"\x80" + bytes.fromhex("0910 03E8 0003 0130"),
        b"\x01" + refused + crc16(refused),
    ]


def mutate_sealed(data: bytes, random: Random) -> bytes:
    """Change a line, and seal it again most of the time."""
    changed = mutate_bytes(data, random)
    if random.random() < 0.2:
        return changed
    head, body = changed[:1], changed[1:].decode("latin-1").encode("ascii", "replace")
    lines = [line.rpartition(b"*")[0].decode() for line in body.split(b"\n")]
    return head + b"".join(f"{sealed(line)}\n".encode() for line in lines if line)


def mutate_frame(data: bytes, random: Random) -> bytes:
    """Change a frame, and give it its checksum again most of the time."""
    changed = mutate_bytes(data, random)
    if random.random() < 0.2 or len(changed) < 4:
        return changed
    return changed[:-2] + crc16(changed[1:-2])


LINE_TARGETS = [
    FuzzTarget(
        name="gcode_lines",
        prepare=lambda: _run_gcode,
        seeds=_gcode_seeds,
        mutate=mutate_bytes,
        max_bytes=MAX_BYTES,
        share=0.5,
    ),
    FuzzTarget(
        name="gripper_lines",
        prepare=lambda: _run_gripper,
        seeds=_gripper_seeds,
        mutate=mutate_sealed,
        max_bytes=MAX_BYTES,
        share=0.5,
    ),
    FuzzTarget(
        name="modbus",
        prepare=lambda: _run_modbus,
        seeds=_modbus_seeds,
        mutate=mutate_frame,
        max_bytes=MAX_BYTES,
        share=0.5,
    ),
]
