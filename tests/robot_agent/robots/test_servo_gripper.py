"""The servo gripper's driver against an emulated board."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ConfigurationError, RobotError, SafetyFault
from robot_agent.arms.clock import SystemClock
from robot_agent.config import SafetyConfig
from robot_agent.robots import servo_gripper_ends
from robot_agent.robots.base import RobotSite
from robot_agent.robots.servo_gripper import ServoGripper, parse_readings
from tests.emulators.arduino_gripper import EmulatedServoGripper
from tests.emulators.pty_port import PtyPort
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def site(tmp_path: Path) -> RobotSite:
    return RobotSite(name="arm-1", state_folder=tmp_path, safety=SafetyConfig(max_grip=0.5))


@pytest.fixture
def board() -> EmulatedServoGripper:
    return EmulatedServoGripper()


@pytest.fixture
def line(tmp_path: Path, board: EmulatedServoGripper) -> Iterator[PtyPort]:
    with PtyPort(board, tmp_path / "gripper") as line:
        yield line


def open_gripper(line: PtyPort, site: RobotSite, **options: object) -> ServoGripper:
    return ServoGripper.open({"port": str(line.path)} | options, site, SystemClock())


@pytest.fixture
def gripper(line: PtyPort, site: RobotSite) -> Iterator[ServoGripper]:
    gripper = open_gripper(line, site)
    yield gripper
    gripper.disconnect()


def test_opening_the_port_moves_nothing(gripper: ServoGripper, board: EmulatedServoGripper):
    assert gripper.opening_m() == pytest.approx(0.030)
    assert board.goals == []


def test_openings_are_metres_between_the_measured_ends(gripper: ServoGripper):
    assert gripper.open_fully() == pytest.approx(0.060, abs=0.001)
    assert gripper.close() == pytest.approx(0.0, abs=0.001)
    assert gripper.opening_m() == pytest.approx(0.0, abs=0.001)


def test_what_is_held_shows_as_an_opening_and_stops_the_squeeze(
    gripper: ServoGripper, board: EmulatedServoGripper
):
    gripper.open_fully()
    board.object_at_us = 1600.0
    assert gripper.close() == pytest.approx(0.024, abs=0.001)
    # 0.5 of 1.2 A: the pulse went only as far beyond the object as that current takes.
    assert board.pulse_us == pytest.approx(1600 + (600 - 60) / 20, abs=15)
    assert gripper.opening_m() == pytest.approx(0.024, abs=0.001)


def test_a_servo_that_runs_the_other_way_is_a_matter_of_its_ends(
    line: PtyPort, site: RobotSite, board: EmulatedServoGripper
):
    ends = {"open_us": 2000, "closed_us": 1000, "open_reading": 550, "closed_reading": 150}
    gripper = open_gripper(line, site, **ends)
    assert gripper.open_fully() == pytest.approx(0.060, abs=0.001)
    assert board.goals[-1][0] == 2000
    gripper.disconnect()


def test_speed_and_current_come_from_options_and_safety(
    line: PtyPort, site: RobotSite, board: EmulatedServoGripper
):
    gripper = open_gripper(line, site, travel_s=2.0, stall_current_a=2.0)
    gripper.close()
    assert board.goals == [(2000, 500, 1000)]
    gripper.disconnect()


def test_holding_stops_fingers_in_the_air_and_the_motion_says_so(
    gripper: ServoGripper, board: EmulatedServoGripper
):
    gripper.open_fully()
    board.hurry = 1.0
    failures: list[RobotError] = []

    def close() -> None:
        try:
            gripper.close()
        except RobotError as error:
            failures.append(error)

    motion = threading.Thread(target=close)
    motion.start()
    wait_until(lambda: board.pulse_us >= 1200, "the fingers move")
    gripper.hold()
    motion.join(PATIENCE_S)
    assert str(failures[0]) == "arm-1: stopped in the middle of a motion"
    assert 1200 <= board.pulse_us < 2000


def test_a_stop_just_before_the_fingers_are_sent_off_is_not_forgotten(
    line: PtyPort, site: RobotSite, board: EmulatedServoGripper
):
    stopped: list[str] = []

    def beat() -> None:
        if stopped:
            raise SafetyFault(stopped[0])

    gripper = open_gripper(line, replace(site, beat=beat))
    gripper.open_fully()
    stopped.append("arm-1 was stopped")
    gripper.hold()
    before = len(board.goals)
    with pytest.raises(SafetyFault, match="arm-1 was stopped"):
        gripper.close()
    assert board.goals[before:] == []
    gripper.disconnect()


def test_holding_keeps_the_grip(gripper: ServoGripper, board: EmulatedServoGripper):
    board.object_at_us = 1600.0
    gripper.close()
    before = board.pulse_us
    gripper.hold()
    assert gripper.opening_m() == pytest.approx(0.024, abs=0.001)
    assert board.pulse_us == before


def test_a_damaged_line_is_asked_for_again_and_counted(
    gripper: ServoGripper, line: PtyPort, board: EmulatedServoGripper
):
    line.faults.garbled = 1
    assert gripper.opening_m() == pytest.approx(0.030)
    counters = gripper._lines._port.counters
    assert (counters.retries, counters.checksum_errors) == (1, 1)


def test_a_board_that_restarts_in_a_motion_ends_it(
    gripper: ServoGripper, board: EmulatedServoGripper
):
    gripper.open_fully()
    board.hurry = 1.0
    timer = threading.Timer(0.2, board.restart)
    timer.start()
    with pytest.raises(RobotError, match="did its board restart"):
        gripper.close()


def test_a_cable_pulled_out_is_named_and_the_next_use_finds_it_again(
    gripper: ServoGripper, line: PtyPort
):
    line.unplug()
    with pytest.raises(RobotError, match=r"arm-1: .*gone"):
        gripper.close()
    line.plug()
    assert gripper.close() == pytest.approx(0.0, abs=0.001)


def test_two_agents_on_one_gripper_are_refused(
    gripper: ServoGripper, line: PtyPort, site: RobotSite
):
    with pytest.raises(ConfigurationError, match=r"arm-1: .*another agent"):
        open_gripper(line, site)


def test_another_firmware_is_refused(line: PtyPort, site: RobotSite, board: EmulatedServoGripper):
    board.says = "servo-gripper 7"
    with pytest.raises(ConfigurationError, match=r"'servo-gripper 7', not 'servo-gripper 1'"):
        open_gripper(line, site)


def test_a_board_may_be_emulated_in_a_process_of_its_own(tmp_path: Path, site: RobotSite):
    path = tmp_path / "gripper"
    command = [sys.executable, "-m", "tests.emulators", "servo-gripper", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"servo-gripper at {path}\n"
            gripper = ServoGripper.open({"port": str(path)}, site, SystemClock())
            assert gripper.opening_m() == pytest.approx(0.030)
            gripper.disconnect()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prot": "x"}, "did you mean 'port'"),
        ({"port": "/dev/x", "open_us": 1950}, "open_us 1950 and gripper.closed_us 2000 are less"),
        ({"port": "/dev/x", "closed_reading": 140}, "closed_reading 140 are less than 50 apart"),
        ({}, "port"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str, site: RobotSite):
    with pytest.raises(ConfigurationError, match=words):
        ServoGripper.open(options, site, SystemClock())


def test_the_ends_are_measured_from_the_command_line(
    line: PtyPort, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.argv", ["servo_gripper_ends", str(line.path), "1900"])
    servo_gripper_ends.main()
    assert capsys.readouterr().out == "pulse 1900 us, reading 510, 0.06 A, still\n"
    monkeypatch.setattr("sys.argv", ["servo_gripper_ends", str(line.path), "99"])
    with pytest.raises(SystemExit, match="1"):
        servo_gripper_ends.main()
    assert "pulse out of range" in capsys.readouterr().err


@given(
    st.integers(0, 1023), st.integers(0, 99999), st.integers(500, 2500), st.sampled_from([0, 1, 2])
)
def test_readings_are_taken_apart(feedback: int, current_ma: int, pulse_us: int, motion: int):
    readings = parse_readings(f"F{feedback} A{current_ma} P{pulse_us} M{motion}")
    assert readings is not None
    assert (readings.feedback, readings.pulse_us, readings.motion) == (feedback, pulse_us, motion)
    assert readings.current_a == current_ma / 1000


@given(st.text(max_size=40))
def test_any_text_is_readings_or_none(text: str):
    assert parse_readings(text) is None or text.startswith("F")
