"""The Robotiq driver against an emulated gripper, and against pymodbus on both ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from protocol.errors import ConfigurationError, RobotError, SafetyFault
from robot_agent.arms.clock import SystemClock
from robot_agent.config import SafetyConfig
from robot_agent.robots.base import RobotSite
from robot_agent.robots.robotiq_2f85 import Robotiq2F85
from robot_agent.robots.robotiq_status import FAULTS, HARMLESS_FAULTS, parse_status
from tests.emulators.null_modem import null_modem
from tests.emulators.pty_port import PtyPort
from tests.emulators.robotiq import CLOSED_AT, OPEN_AT, EmulatedRobotiq
from tests.waiting import PATIENCE_S

FAULTS_THAT_STOP = sorted(set(FAULTS) - HARMLESS_FAULTS)


def site(tmp_path: Path, **safety: float) -> RobotSite:
    return RobotSite(name="arm-1", state_folder=tmp_path, safety=SafetyConfig(**safety))


@pytest.fixture
def device() -> EmulatedRobotiq:
    return EmulatedRobotiq()


@pytest.fixture
def line(tmp_path: Path, device: EmulatedRobotiq) -> Iterator[PtyPort]:
    with PtyPort(device, tmp_path / "gripper") as line:
        yield line


@contextmanager
def opened(line: PtyPort, site: RobotSite, **options: object) -> Iterator[Robotiq2F85]:
    gripper = Robotiq2F85.open({"port": str(line.path)} | options, site, SystemClock())
    try:
        yield gripper
    finally:
        gripper.disconnect()


@pytest.fixture
def gripper(line: PtyPort, tmp_path: Path) -> Iterator[Robotiq2F85]:
    with opened(line, site(tmp_path)) as gripper:
        yield gripper


def test_opening_the_port_moves_nothing(gripper: Robotiq2F85, device: EmulatedRobotiq):
    assert gripper.opening_m() > 0
    assert device.writes == []


def test_it_activates_before_its_first_motion_and_never_again(
    gripper: Robotiq2F85, device: EmulatedRobotiq
):
    gripper.open_fully()
    gripper.close()
    gripper.open_fully()
    assert device.activations == 1


def test_a_gripper_that_is_active_already_keeps_what_it_holds(
    line: PtyPort, device: EmulatedRobotiq, tmp_path: Path
):
    device.object_at = 140
    with opened(line, site(tmp_path)) as first:
        held_m = first.close()
    with opened(line, site(tmp_path)) as second:
        assert second.opening_m() == held_m
        assert second.close() == held_m
    assert device.activations == 1


def test_openings_are_metres_between_the_calibrated_ends(gripper: Robotiq2F85):
    assert gripper.open_fully() == pytest.approx(0.085)
    assert gripper.opening_m() == pytest.approx(0.085)
    assert gripper.close() == pytest.approx(0.0)


def test_what_is_held_shows_as_an_opening(gripper: Robotiq2F85, device: EmulatedRobotiq):
    gripper.open_fully()
    device.object_at = 140
    expected_m = 0.085 * (CLOSED_AT - 140) / (CLOSED_AT - OPEN_AT)
    assert gripper.close() == pytest.approx(expected_m, abs=0.0005)


def test_readings_of_other_finger_tips_are_options(
    line: PtyPort, device: EmulatedRobotiq, tmp_path: Path
):
    device.object_at = 200
    with opened(line, site(tmp_path), closed_reading=200, stroke_m=0.06) as gripper:
        assert gripper.open_fully() == pytest.approx(0.06)
        assert gripper.close() == pytest.approx(0.0)


def test_force_and_speed_come_from_the_safety_limits(
    line: PtyPort, device: EmulatedRobotiq, tmp_path: Path
):
    with opened(line, site(tmp_path, max_grip=0.3, max_speed_m_s=0.05)) as gripper:
        gripper.close()
    action, _, _, position, speed, force = device.writes[-1]
    assert (action, position) == (0x09, 255)
    assert speed == 58  # of 255, between 20 and 150 mm/s: just below 50
    assert force == 76


def test_holding_stops_fingers_in_the_air_and_the_motion_says_so(
    line: PtyPort, device: EmulatedRobotiq, tmp_path: Path
):
    failures: list[RobotError] = []

    def close() -> None:
        try:
            gripper.close()
        except RobotError as error:
            failures.append(error)

    with opened(line, site(tmp_path)) as gripper:
        gripper.open_fully()
        device.hurry = 1.0
        motion = threading.Thread(target=close)
        motion.start()
        while not gripper.status().is_moving:
            pass
        gripper.hold()
        motion.join(PATIENCE_S)
        assert not gripper.status().is_moving
    assert "stopped" in str(failures[0])
    assert OPEN_AT <= device.position < CLOSED_AT


def test_a_stop_just_before_the_fingers_are_sent_off_is_not_forgotten(
    line: PtyPort, device: EmulatedRobotiq, tmp_path: Path
):
    stopped: list[str] = []

    def beat() -> None:
        if stopped:
            raise SafetyFault(stopped[0])

    with opened(line, replace(site(tmp_path), beat=beat)) as gripper:
        gripper.open_fully()
        stopped.append("arm-1 was stopped")
        gripper.hold()
        before = len(device.writes)
        with pytest.raises(SafetyFault, match="arm-1 was stopped"):
            gripper.close()
        assert device.writes[before:] == []


def test_holding_ends_an_activation_too(line: PtyPort, device: EmulatedRobotiq, tmp_path: Path):
    device.hurry = 1.0
    with opened(line, site(tmp_path)) as gripper:
        threading.Timer(0.3, gripper.hold).start()
        with pytest.raises(RobotError, match="stopped"):
            gripper.close()
        assert gripper.status().stage == 0
        device.hurry = 50.0
        assert gripper.close() == pytest.approx(0.0)


def test_holding_keeps_the_grip(gripper: Robotiq2F85, device: EmulatedRobotiq):
    device.object_at = 140
    gripper.close()
    before = list(device.writes)
    gripper.hold()
    assert device.writes == before


@pytest.mark.parametrize("fault", FAULTS_THAT_STOP)
def test_a_fault_is_told_in_words(gripper: Robotiq2F85, device: EmulatedRobotiq, fault: int):
    gripper.open_fully()
    device.fault = fault
    words = FAULTS[fault].words
    if FAULTS[fault].needs_a_person:
        with pytest.raises(SafetyFault, match=f"arm-1: .*{words}"):
            gripper.close()
        assert device.activations == 1
    else:
        # It is cured by a new activation, before anything moves.
        gripper.close()
        assert device.activations == 2


def test_a_fault_in_a_motion_ends_it(line: PtyPort, device: EmulatedRobotiq, tmp_path: Path):
    with opened(line, site(tmp_path)) as gripper:
        gripper.open_fully()
        device.hurry = 1.0
        timer = threading.Timer(0.1, lambda: setattr(device, "fault", 0x0E))
        timer.start()
        with pytest.raises(RobotError, match=r"overcurrent.*max_grip"):
            gripper.close()


def test_a_supply_that_fails_in_a_motion_ends_it(
    line: PtyPort, device: EmulatedRobotiq, tmp_path: Path
):
    with opened(line, site(tmp_path)) as gripper:
        gripper.open_fully()
        device.hurry = 1.0
        timer = threading.Timer(0.1, device.power_cycle)
        timer.start()
        with pytest.raises(RobotError, match="supply"):
            gripper.close()
        device.hurry = 50.0
        gripper.open_fully()
    assert device.activations == 2


def test_a_disturbed_line_costs_tries_only(gripper: Robotiq2F85, line: PtyPort):
    gripper.open_fully()
    line.faults.garbled = 1
    line.faults.silent = 1
    assert gripper.close() == pytest.approx(0.0)


def test_a_cable_pulled_in_a_motion_aborts_it_and_the_next_one_works(
    line: PtyPort, device: EmulatedRobotiq, tmp_path: Path
):
    with opened(line, site(tmp_path)) as gripper:
        gripper.open_fully()
        device.hurry = 1.0
        timer = threading.Timer(0.1, line.unplug)
        timer.start()
        with pytest.raises(RobotError, match=r"arm-1: .*gone"):
            gripper.close()
        line.plug()
        device.hurry = 50.0
        assert gripper.close() == pytest.approx(0.0)


def test_two_agents_on_one_gripper_are_refused(gripper: Robotiq2F85, line: PtyPort, tmp_path: Path):
    gripper.opening_m()
    with pytest.raises(ConfigurationError, match="another agent"):
        Robotiq2F85.open({"port": str(line.path)}, site(tmp_path), SystemClock())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prot": "x"}, "did you mean 'port'"),
        ({"port": "/dev/x", "slave": 0}, "slave"),
        ({"port": "/dev/x", "closed_reading": 20}, "closed_reading 20 is not at least 50 above"),
        ({}, "port"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=words):
        Robotiq2F85.open(options, site(tmp_path), SystemClock())


@given(st.lists(st.integers(0, 0xFFFF), min_size=3, max_size=3))
def test_every_status_can_be_taken_apart(registers: list[int]):
    status = parse_status(registers)
    assert 0 <= status.position <= 255
    assert 0 <= status.fault <= 15
    assert status.is_active <= (status.stage == 3)


def test_pymodbus_finds_a_gripper_in_the_emulator(line: PtyPort, device: EmulatedRobotiq):
    client = ModbusSerialClient(str(line.path), baudrate=115200, timeout=1)
    assert client.connect()
    try:
        assert not client.write_registers(0x3E8, [0x0000, 0, 0], device_id=9).isError()
        assert not client.write_registers(0x3E8, [0x0100, 0, 0], device_id=9).isError()
        status = 0
        for _ in range(500):
            status = client.read_input_registers(0x7D0, count=1, device_id=9).registers[0]
            if status == 0x3100:
                break
        assert status == 0x3100
        assert client.read_holding_registers(0x7D0, count=3, device_id=9).registers[0] == 0x3100
        assert client.read_input_registers(0x100, count=1, device_id=9).exception_code == 2
    finally:
        client.close()
    assert device.activations == 1


class PymodbusSlave:
    """pymodbus's own RTU server on a thread, with a gripper's registers and no gripper."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> PymodbusSlave:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(10)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        device = SimDevice(
            9,
            [
                SimData(0x3E8, values=[0, 0, 0], datatype=DataType.REGISTERS),
                # Active, at position, no fault, at 13 of 255: the manual's example.
                SimData(0x7D0, values=[0xF900, 0x0000, 0x0D00], datatype=DataType.REGISTERS),
            ],
        )
        self._server = ModbusSerialServer(
            device, framer=FramerType.RTU, port=str(self._path), baudrate=115200
        )
        await self._server.serve_forever(background=True)
        self._ready.set()
        await self._server.serving


def test_the_driver_talks_to_pymodbus_as_to_a_gripper(tmp_path: Path):
    with null_modem() as (near, far), PymodbusSlave(far):
        gripper = Robotiq2F85.open({"port": str(near)}, site(tmp_path), SystemClock())
        try:
            assert gripper.status().position == 13
            assert gripper.opening_m() == pytest.approx(0.085 * (230 - 13) / (230 - 3))
            # It says that it is open already, whatever was written to it.
            assert gripper.open_fully() == gripper.opening_m()
        finally:
            gripper.disconnect()
