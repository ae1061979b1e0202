"""Feetech's packets, byte for byte the vendor's; its code with our servos, ours with the line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import scservo_sdk
from hypothesis import given
from hypothesis import strategies as st
from scservo_sdk.protocol_packet_handler import protocol_packet_handler

from protocol.errors import NoAnswerError
from robot_agent.serial_bus import feetech, feetech_registers
from robot_agent.serial_bus.feetech import FeetechBus, FeetechError, encode
from robot_agent.serial_bus.packet_stream import NoPacket, StatusPacket
from robot_agent.serial_bus.port import SerialPort
from tests.emulators.feetech_servos import FeetechLine, FeetechServo
from tests.emulators.pty_port import PtyPort
from tests.robot_agent.serial_bus.vendors import patient, sent_by

VENDOR = protocol_packet_handler()
ids = st.integers(0, 253)
byte = st.integers(0, 255)
data = st.binary(min_size=1, max_size=40)


@given(servo_id=ids, address=byte, length=byte)
def test_reading_is_the_vendors_frame(servo_id: int, address: int, length: int):
    theirs = sent_by(lambda port: VENDOR.readTx(port, servo_id, address, length))
    assert encode(servo_id, feetech.READ, bytes((address, length))) == theirs


@given(servo_id=ids, address=byte, data=data)
def test_writing_is_the_vendors_frame(servo_id: int, address: int, data: bytes):
    theirs = sent_by(lambda p: VENDOR.writeTxOnly(p, servo_id, address, len(data), list(data)))
    assert encode(servo_id, feetech.WRITE, bytes((address,)) + data) == theirs


@given(servo_ids=st.lists(ids, min_size=1, max_size=20), address=byte, length=byte)
def test_a_sync_read_is_the_vendors_frame(servo_ids: list[int], address: int, length: int):
    theirs = sent_by(
        lambda port: VENDOR.syncReadTx(port, address, length, servo_ids, len(servo_ids))
    )
    ours = encode(feetech.BROADCAST_ID, feetech.SYNC_READ, bytes((address, length, *servo_ids)))
    assert ours == theirs


@given(st.data())
def test_a_sync_write_is_the_vendors_frame(draw: st.DataObject):
    length = draw.draw(st.integers(1, 8))
    values = st.binary(min_size=length, max_size=length)
    each = draw.draw(st.dictionaries(ids, values, min_size=1, max_size=12))
    flat = [number for servo_id, value in each.items() for number in (servo_id, *value)]
    theirs = sent_by(lambda port: VENDOR.syncWriteTxOnly(port, 42, length, flat, len(flat)))
    ours = sent_by(lambda port: FeetechBus(_Sending(port)).sync_write(42, each))
    assert ours == theirs


@given(value=st.integers(-0x7FFF, 0x7FFF))
def test_signs_are_where_the_vendor_has_them(value: int):
    ours = feetech.to_sign_magnitude(value, 15)
    assert ours == scservo_sdk.scservo_def.SCS_TOSCS(value, 15)
    assert feetech.from_sign_magnitude(ours, 15) == value


@given(raw=st.integers(0, 0xFFFF), bit=st.sampled_from([10, 11, 15]))
def test_any_two_bytes_are_some_number(raw: int, bit: int):
    value = feetech.from_sign_magnitude(raw, bit)
    assert abs(value) < 1 << bit
    assert value == scservo_sdk.scservo_def.SCS_TOHOST(raw & ((2 << bit) - 1), bit)


@pytest.mark.parametrize(("value", "bit"), [(2048, 11), (-2048, 11), (1024, 10)])
def test_a_number_that_needs_the_sign_bit_is_refused(value: int, bit: int):
    with pytest.raises(ValueError, match=f"more than {bit} bits"):
        feetech.to_sign_magnitude(value, bit)


@pytest.mark.parametrize("value", [-1, 256])
def test_a_number_that_a_register_cannot_hold_is_refused(value: int):
    with pytest.raises(ValueError, match="not within 0 and 255"):
        feetech_registers.TORQUE_ENABLE.encode(value)


@given(servo_id=ids, error=byte, parameters=st.binary(max_size=60), behind=st.binary(max_size=9))
def test_a_status_packet_is_read_back(servo_id: int, error: int, parameters: bytes, behind: bytes):
    packet = encode(servo_id, error, parameters)
    expected = StatusPacket(servo_id, error, parameters, len(packet))
    assert feetech.parse_status(b"\x01" + packet + behind, 1) == expected
    for end in range(2, len(packet)):
        assert feetech.parse_status(packet[:end], 0) is NoPacket.INCOMPLETE


def test_an_id_or_parameters_that_fit_no_packet_are_refused():
    with pytest.raises(ValueError, match="servo id 255"):
        encode(255, feetech.READ)
    with pytest.raises(ValueError, match="251 bytes exceed 250"):
        encode(1, feetech.WRITE, bytes(251))


class _Sending:
    """As much of a SerialPort as sending needs, with the vendor's port behind it."""

    def __init__(self, port: object) -> None:
        self.send = port.writePort  # type: ignore[attr-defined]


@pytest.fixture
def line() -> FeetechLine:
    return FeetechLine([FeetechServo(servo_id=servo_id) for servo_id in range(1, 7)])


@pytest.fixture
def cable(line: FeetechLine, tmp_path: Path) -> Iterator[PtyPort]:
    with PtyPort(line, tmp_path / "bus") as cable:
        yield cable


@pytest.fixture
def bus(cable: PtyPort) -> Iterator[FeetechBus]:
    bus = FeetechBus(SerialPort(cable.path, baud=1_000_000), reply_timeout_s=0.2)
    yield bus
    bus.close()


def test_the_vendors_code_talks_to_our_emulated_servos(cable: PtyPort, line: FeetechLine):
    port = patient(scservo_sdk.PortHandler)(str(cable.path))
    assert port.openPort()
    assert VENDOR.ping(port, 3) == (777, scservo_sdk.COMM_SUCCESS, 0)
    assert VENDOR.write2ByteTxRx(port, 3, 42, 3000) == (scservo_sdk.COMM_SUCCESS, 0)
    assert VENDOR.read2ByteTxRx(port, 3, 42) == (3000, scservo_sdk.COMM_SUCCESS, 0)
    assert VENDOR.ping(port, 9)[1] == scservo_sdk.COMM_RX_TIMEOUT

    writing = scservo_sdk.GroupSyncWrite(port, VENDOR, 42, 2)
    reading = scservo_sdk.GroupSyncRead(port, VENDOR, 42, 2)
    for servo_id in line.servos:
        writing.addParam(servo_id, [servo_id, 8])
        reading.addParam(servo_id)
    assert writing.txPacket() == scservo_sdk.COMM_SUCCESS
    assert reading.txRxPacket() == scservo_sdk.COMM_SUCCESS
    assert [reading.getData(one, 42, 2) for one in line.servos] == [
        2048 + one for one in line.servos
    ]
    port.closePort()


def test_what_is_written_is_read_back(bus: FeetechBus):
    bus.write_register(4, feetech_registers.HOMING_OFFSET, -1000)
    assert bus.read_register(4, feetech_registers.HOMING_OFFSET) == -1000
    bus.sync_write_register(feetech_registers.GOAL_POSITION, {1: 100, 6: -100})
    packets = bus.sync_read([6, 1], 42, 2)
    assert [feetech_registers.GOAL_POSITION.decode(p.parameters) for p in packets.values()] == [
        -100,
        100,
    ]


def test_what_a_servo_complains_of_comes_with_its_packets(bus: FeetechBus, line: FeetechLine):
    line.servos[2].overload()
    line.servos[3].has_sensor_fault = True
    line.servos[4].temperature_c = 90.0
    line.supply_v = 9.0
    line.step(0.01)
    packets = bus.sync_read(range(1, 5), 56, 8)
    too_much = FeetechError.VOLTAGE
    assert [FeetechError(packet.error) for packet in packets.values()] == [
        too_much,
        too_much | FeetechError.OVERLOAD,
        too_much | FeetechError.ANGLE_SENSOR,
        too_much | FeetechError.OVERHEATED,
    ]


def test_only_the_servos_that_did_not_answer_are_asked_again(bus: FeetechBus, line: FeetechLine):
    line.servos[5].is_missing = True
    with pytest.raises(NoAnswerError, match=r"servo 5 did not answer in 3 tries"):
        bus.sync_read(range(1, 7), 56, 8)
    asked = [request[5:] for request in line.requests if request[2] == feetech.SYNC_READ]
    assert asked == [bytes(range(1, 7)), b"\x05", b"\x05"]


@pytest.mark.parametrize("fault", ["silent", "garbled", "noisy", "cut"])
def test_a_disturbed_answer_costs_a_try_at_most(bus: FeetechBus, cable: PtyPort, fault: str):
    setattr(cable.faults, fault, 2)
    packets = bus.sync_read(range(1, 7), 0, 40)
    assert [packet.parameters[5] for packet in packets.values()] == [1, 2, 3, 4, 5, 6]
    counters = bus.counters
    assert counters.retries == (0 if fault == "noisy" else 2)
    assert (counters.checksum_errors > 0) == (fault == "garbled")
    assert (counters.garbage_bytes > 0) == (fault in ("garbled", "noisy", "cut"))
