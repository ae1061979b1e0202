"""Modbus frames: the manual's, pymodbus's, damaged ones; and a slave that misbehaves."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import (
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
)

from protocol.errors import ConfigurationError, PortGoneError, RobotError
from robot_agent.serial_bus.modbus import (
    ModbusPort,
    ModbusReply,
    crc16,
    read_request,
    write_request,
)
from robot_agent.serial_bus.port import SerialPort
from tests.emulators.pty_port import PtyPort
from tests.emulators.robotiq import EmulatedRobotiq

MANUAL_FRAMES = [
    "09 10 03 E8 00 03 06 00 00 00 00 00 00 73 30",
    "09 10 03 E8 00 03 01 30",
    "09 03 07 D0 00 01 85 CF",
    "09 03 02 11 00 55 D5",
    "09 03 02 31 00 4C 15",
    "09 10 03 E8 00 03 06 09 00 00 FF FF FF 42 29",
    "09 03 07 D0 00 03 04 0E",
    "09 04 07 D0 00 03 B1 CE",
    "09 04 06 B9 00 00 FF BD 00 5C 9A",
    "09 10 03 E8 00 03 06 09 00 00 00 FF FF 72 19",
    "09 04 06 F9 00 00 00 0D 00 17 AA",
]

words = st.integers(0, 0xFFFF)
slaves = st.integers(1, 247)


@pytest.mark.parametrize("frame", MANUAL_FRAMES)
def test_the_manuals_frames_carry_our_checksum(frame: str):
    data = bytes.fromhex(frame)
    assert crc16(data[:-2]) == data[-2:]


def test_our_requests_are_the_manuals():
    opening = "0910 03E8 0003 06 0900 0000 FFFF 7219"
    assert write_request(9, 0x3E8, (0x0900, 0x0000, 0xFFFF)) == bytes.fromhex(opening)
    assert read_request(9, 0x7D0, 3) == bytes.fromhex("0904 07D0 0003 B1CE")


def test_the_manuals_answer_is_read():
    reply = ModbusReply(read_request(9, 0x7D0, 3))
    assert reply.feed(bytes.fromhex("0904 06 F900 0000 0D00 17AA"))
    assert reply.values == (0xF900, 0x0000, 0x0D00)


@given(slave=slaves, address=words, count=st.integers(1, 125))
def test_reading_frames_are_those_of_pymodbus(slave: int, address: int, count: int):
    framer = FramerRTU(DecodePDU(False))
    asked = ReadInputRegistersRequest(address=address, count=count, dev_id=slave)
    assert read_request(slave, address, count) == framer.buildFrame(asked)


@given(slave=slaves, address=words, values=st.lists(words, min_size=1, max_size=123))
def test_writing_frames_are_those_of_pymodbus(slave: int, address: int, values: list[int]):
    framer = FramerRTU(DecodePDU(False))
    theirs = framer.buildFrame(
        WriteMultipleRegistersRequest(address=address, registers=values, dev_id=slave)
    )
    assert write_request(slave, address, values) == theirs


@given(
    values=st.lists(words, min_size=1, max_size=16),
    noise=st.binary(max_size=12),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_an_answer_is_found_behind_noise_and_in_any_pieces(
    values: list[int], noise: bytes, cuts: list[int]
):
    answer = bytes([9, 4, 2 * len(values)]) + struct.pack(f">{len(values)}H", *values)
    stream = noise + answer + crc16(answer)
    ends = [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reply = ModbusReply(read_request(9, 0x7D0, len(values)))
    start, done = 0, False
    for end in ends:
        assert not done or start == end
        done = reply.feed(stream[start:end]) if end > start else done
        start = end
    # Noise may, rarely, hold an answer of its own; then that is the one.
    assert done
    if reply.refusal is None and reply.garbage_bytes == len(noise):
        assert reply.values == tuple(values)


@given(values=st.lists(words, min_size=1, max_size=8), at=st.integers(0, 20), bit=st.integers(0, 7))
def test_one_flipped_bit_is_never_taken_for_an_answer(values: list[int], at: int, bit: int):
    answer = bytes([9, 4, 2 * len(values)]) + struct.pack(f">{len(values)}H", *values)
    frame = bytearray(answer + crc16(answer))
    frame[at % len(frame)] ^= 1 << bit
    reply = ModbusReply(read_request(9, 0x7D0, len(values)))
    assert not reply.feed(bytes(frame))
    assert reply.values == ()
    assert reply.garbage_bytes == len(frame)


@given(st.binary(max_size=300))
def test_any_bytes_leave_the_parser_well(data: bytes):
    reply = ModbusReply(read_request(9, 0x7D0, 3))
    found = reply.feed(data)
    assert found == bool(reply.values or reply.refusal is not None)
    assert 0 <= reply.garbage_bytes <= len(data)


@pytest.fixture
def gripper() -> EmulatedRobotiq:
    return EmulatedRobotiq()


@pytest.fixture
def line(gripper: EmulatedRobotiq, tmp_path: Path) -> Iterator[PtyPort]:
    with PtyPort(gripper, tmp_path / "gripper") as line:
        yield line


@pytest.fixture
def port(line: PtyPort) -> Iterator[SerialPort]:
    port = SerialPort(line.path, baud=115200)
    yield port
    port.close()


def test_registers_are_written_and_read(gripper: EmulatedRobotiq, port: SerialPort):
    slave = ModbusPort(port, slave=9, name="arm-1")
    slave.write_registers(0x3E8, (0x0000, 0x00A0, 0x4020))
    assert gripper.outputs == bytes.fromhex("0000 00A0 4020")
    assert slave.read_registers(0x7D1, 2) == (0x00A0, 120 << 8)


@pytest.mark.parametrize("fault", ["silent", "garbled", "noisy", "cut"])
def test_one_disturbed_answer_is_asked_for_again(line: PtyPort, port: SerialPort, fault: str):
    slave = ModbusPort(port, slave=9, name="arm-1")
    slave.write_registers(0x3E8, (0, 77, 0))
    setattr(line.faults, fault, 1)
    assert slave.read_registers(0x7D0, 3) == (0, 77, 120 << 8)
    assert port.counters.retries == (0 if fault == "noisy" else 1)
    assert port.counters.checksum_errors == (1 if fault == "garbled" else 0)
    assert (port.counters.garbage_bytes > 0) == (fault != "silent")


def test_a_slave_that_stays_silent_is_an_error_that_says_what_to_check(
    line: PtyPort, port: SerialPort
):
    line.faults.silent = 100
    with pytest.raises(RobotError, match=r"arm-1: .*slave 9.*3 tries.*A and B swapped") as raised:
        ModbusPort(port, slave=9, name="arm-1").read_registers(0x7D0, 3)
    assert type(raised.value) is RobotError
    assert port.counters.transactions == 3


def test_another_slaves_number_is_not_answered(port: SerialPort):
    with pytest.raises(RobotError, match="slave 7"):
        ModbusPort(port, slave=7, name="arm-1").read_registers(0x7D0, 3)


def test_a_refusal_is_told_in_words_and_not_tried_again(port: SerialPort):
    with pytest.raises(RobotError, match=r"has no such registers \(exception 2.*0x0100"):
        ModbusPort(port, slave=9, name="arm-1").read_registers(0x100, 1)
    assert port.counters.retries == 0


def test_a_cable_that_is_out_and_in_again_costs_only_the_call(line: PtyPort, port: SerialPort):
    slave = ModbusPort(port, slave=9, name="arm-1")
    slave.read_registers(0x7D0, 3)
    line.unplug()
    with pytest.raises(PortGoneError, match=r"arm-1: .*gone"):
        slave.read_registers(0x7D0, 3)
    line.plug()
    assert len(slave.read_registers(0x7D0, 3)) == 3
    assert port.counters.reopened == 1


def test_a_second_master_on_the_port_is_refused(line: PtyPort, port: SerialPort):
    ModbusPort(port, slave=9, name="arm-1").open()
    second = ModbusPort(SerialPort(line.path, baud=115200), slave=9, name="arm-2")
    with pytest.raises(ConfigurationError, match=r"arm-2: .*another agent"):
        second.open()
