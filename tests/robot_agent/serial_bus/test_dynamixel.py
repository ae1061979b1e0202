"""Protocol 2.0, byte for byte the vendor's; its code with our motors, ours with the line."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import dynamixel_sdk
import pytest
from dynamixel_sdk.protocol2_packet_handler import Protocol2PacketHandler
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.errors import NoAnswerError, RobotError
from robot_agent.serial_bus import dynamixel, dynamixel_registers
from robot_agent.serial_bus.dynamixel import DynamixelBus, crc16, encode
from robot_agent.serial_bus.packet_stream import NoPacket, StatusPacket
from robot_agent.serial_bus.port import SerialPort
from tests.emulators.dynamixel_servos import DynamixelLine, DynamixelServo
from tests.emulators.pty_port import PtyPort
from tests.robot_agent.serial_bus.vendors import patient, sent_by

VENDOR = Protocol2PacketHandler()
HEADER_BYTES = b"\xff\xff\xfd"
ids = st.integers(0, 252)
word = st.integers(0, 0xFFFF)
data = st.binary(min_size=1, max_size=40)
full_of_headers = st.lists(
    st.sampled_from([b"\xff", b"\xfd", HEADER_BYTES, b"\x00", b"\x55"]), max_size=20
).map(b"".join)


@given(servo_id=ids, address=word, length=word)
def test_reading_is_the_vendors_frame(servo_id: int, address: int, length: int):
    parameters = struct.pack("<HH", address, length)
    assume(HEADER_BYTES not in parameters)  # theirs forgets to send what it stuffed
    theirs = sent_by(lambda port: VENDOR.readTx(port, servo_id, address, length))
    assert encode(servo_id, dynamixel.READ, parameters) == theirs


@given(servo_id=ids, address=word, data=data)
def test_writing_is_the_vendors_frame(servo_id: int, address: int, data: bytes):
    parameters = struct.pack("<H", address) + data
    assume(HEADER_BYTES not in parameters)
    theirs = sent_by(lambda p: VENDOR.writeTxOnly(p, servo_id, address, len(data), list(data)))
    assert encode(servo_id, dynamixel.WRITE, parameters) == theirs


@given(servo_ids=st.lists(ids, min_size=1, max_size=20), address=word, length=word)
def test_a_sync_read_is_the_vendors_frame(servo_ids: list[int], address: int, length: int):
    parameters = struct.pack("<HH", address, length) + bytes(servo_ids)
    assume(HEADER_BYTES not in parameters)
    count = len(servo_ids)
    theirs = sent_by(lambda p: VENDOR.syncReadTx(p, address, length, servo_ids, count, False))
    assert encode(dynamixel.BROADCAST_ID, dynamixel.SYNC_READ, parameters) == theirs


@given(st.data())
def test_a_sync_write_is_the_vendors_frame(draw: st.DataObject):
    length = draw.draw(st.integers(1, 12))
    values = st.binary(min_size=length, max_size=length)
    each = draw.draw(st.dictionaries(ids, values, min_size=1, max_size=12))
    flat = [number for servo_id, value in each.items() for number in (servo_id, *value)]
    assume(HEADER_BYTES not in bytes(flat))
    theirs = sent_by(lambda port: VENDOR.syncWriteTxOnly(port, 116, length, flat, len(flat)))
    ours = sent_by(lambda port: DynamixelBus(_Sending(port)).sync_write(116, each))
    assert ours == theirs


@given(st.binary(max_size=80))
def test_the_checksum_is_the_vendors(data: bytes):
    assert crc16(data) == VENDOR.updateCRC(0, data, len(data))


@given(parameters=full_of_headers)
def test_what_looks_like_a_header_is_stuffed_as_the_vendor_does(parameters: bytes):
    length = len(parameters) + 3
    plain = [0xFF, 0xFF, 0xFD, 0, 1, length & 0xFF, length >> 8, dynamixel.WRITE, *parameters, 0, 0]
    theirs = bytes(VENDOR.addStuffing(plain))
    stuffed = 7 + struct.unpack_from("<H", theirs, 5)[0]
    assert encode(1, dynamixel.WRITE, parameters)[:-2] == theirs[: stuffed - 2]


@given(servo_id=ids, error=st.integers(0, 255), parameters=full_of_headers)
def test_a_status_packet_is_read_back(servo_id: int, error: int, parameters: bytes):
    packet = encode(servo_id, dynamixel.STATUS, bytes((error,)) + parameters)
    expected = StatusPacket(servo_id, error, parameters, len(packet))
    assert dynamixel.parse_status(b"\x01" + packet + b"\xff", 1) == expected
    for end in range(4, len(packet)):
        assert dynamixel.parse_status(packet[:end], 0) is NoPacket.INCOMPLETE


def test_an_id_or_parameters_that_fit_no_packet_are_refused():
    with pytest.raises(ValueError, match="id 253"):
        encode(253, dynamixel.READ)
    with pytest.raises(ValueError, match="1001 bytes exceed 1000"):
        encode(1, dynamixel.WRITE, bytes(1001))


@given(value=st.integers(-(2**31), 2**31 - 1))
def test_a_register_gives_back_what_it_took(value: int):
    register = dynamixel_registers.GOAL_POSITION
    assert register.encode(value) == struct.pack("<i", value)
    assert register.decode(register.encode(value)) == value


def test_a_number_that_a_register_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="not within -32768 and 32767"):
        dynamixel_registers.GOAL_CURRENT.encode(40_000)


class _Sending:
    """As much of a SerialPort as sending needs, with the vendor's port behind it."""

    def __init__(self, port: object) -> None:
        self.send = port.writePort  # type: ignore[attr-defined]


@pytest.fixture
def line() -> DynamixelLine:
    return DynamixelLine([DynamixelServo(servo_id=one) for one in range(1, 7)], supply_v=12.0)


@pytest.fixture
def cable(line: DynamixelLine, tmp_path: Path) -> Iterator[PtyPort]:
    with PtyPort(line, tmp_path / "bus") as cable:
        yield cable


@pytest.fixture
def bus(cable: PtyPort) -> Iterator[DynamixelBus]:
    bus = DynamixelBus(SerialPort(cable.path, baud=1_000_000), reply_timeout_s=0.2)
    yield bus
    bus.close()


def test_the_vendors_code_talks_to_our_emulated_motors(cable: PtyPort, line: DynamixelLine):
    port = patient(dynamixel_sdk.PortHandler)(str(cable.path))
    assert port.openPort()
    assert port.setBaudRate(1_000_000)
    success = dynamixel_sdk.COMM_SUCCESS
    assert VENDOR.ping(port, 3) == (1020, success, 0)
    assert VENDOR.write4ByteTxRx(port, 3, 116, 3000) == (success, 0)
    assert VENDOR.read4ByteTxRx(port, 3, 116) == (3000, success, 0)
    assert VENDOR.write1ByteTxRx(port, 3, 64, 1) == (success, 0)
    # The operating mode cannot be changed while the torque is on.
    assert VENDOR.write1ByteTxRx(port, 3, 11, 5) == (success, 7)
    assert VENDOR.ping(port, 9)[1] == dynamixel_sdk.COMM_RX_TIMEOUT

    writing = dynamixel_sdk.GroupSyncWrite(port, VENDOR, 116, 4)
    reading = dynamixel_sdk.GroupSyncRead(port, VENDOR, 116, 4)
    for servo_id in line.servos:
        writing.addParam(servo_id, [servo_id, 8, 0, 0])
        reading.addParam(servo_id)
    assert writing.txPacket() == success
    assert reading.txRxPacket() == success
    assert [reading.getData(one, 116, 4) for one in line.servos] == [
        2048 + one for one in line.servos
    ]
    port.closePort()


def test_what_is_written_is_read_back(bus: DynamixelBus):
    bus.write_register(4, dynamixel_registers.HOMING_OFFSET, -1000)
    assert bus.read_register(4, dynamixel_registers.HOMING_OFFSET) == -1000
    bus.sync_write_register(dynamixel_registers.GOAL_POSITION, {1: 100, 6: -100})
    packets = bus.sync_read([6, 1], 116, 4)
    assert [struct.unpack("<i", packet.parameters) for packet in packets.values()] == [
        (-100,),
        (100,),
    ]


def test_bytes_that_look_like_a_header_pass_both_ways(bus: DynamixelBus):
    tricky = HEADER_BYTES + b"\x00" + HEADER_BYTES + b"\xfd"
    bus.write(2, 168, tricky)
    assert bus.read(2, 168, len(tricky)).parameters == tricky


def test_a_motor_that_refuses_says_why(bus: DynamixelBus):
    bus.write_register(3, dynamixel_registers.TORQUE_ENABLE, 1)
    with pytest.raises(RobotError, match=r"servo 3 refused .*not while the torque is on"):
        bus.write_register(3, dynamixel_registers.OPERATING_MODE, 5)
    with pytest.raises(RobotError, match=r"servo 3 refused .*beyond a limit set in the motor"):
        bus.write_register(3, dynamixel_registers.GOAL_CURRENT, 2000)
    with pytest.raises(RobotError, match=r"servo 1 refused"):
        bus.sync_read([1, 3], 250, 20)
    assert bus.counters.retries == 0


def test_only_the_motors_that_did_not_answer_are_asked_again(
    bus: DynamixelBus, line: DynamixelLine
):
    line.servos[5].is_missing = True
    with pytest.raises(NoAnswerError, match=r"servo 5 did not answer in 3 tries"):
        bus.sync_read(range(1, 7), 132, 4)
    asked = [request[6:] for request in line.requests if request[1] == dynamixel.SYNC_READ]
    assert asked == [bytes(range(1, 7)), b"\x05", b"\x05"]


@pytest.mark.parametrize("fault", ["silent", "garbled", "noisy", "cut"])
def test_a_disturbed_answer_costs_a_try_at_most(bus: DynamixelBus, cable: PtyPort, fault: str):
    setattr(cable.faults, fault, 2)
    packets = bus.sync_read(range(1, 7), 0, 40)
    assert [packet.parameters[7] for packet in packets.values()] == [1, 2, 3, 4, 5, 6]
    counters = bus.counters
    assert counters.retries == (0 if fault == "noisy" else 2)
    assert (counters.checksum_errors > 0) == (fault == "garbled")
    assert (counters.garbage_bytes > 0) == (fault in ("garbled", "noisy", "cut"))
