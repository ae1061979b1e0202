"""``robot-agent calibrate`` as a person runs it: what it says, keeps, and refuses."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import cv2
import numpy as np
import pytest

from fleet.camera_description import workspace_points
from fleet.toml_text import toml_text
from protocol.configuration import load_toml
from protocol.episode import GripperPose
from protocol.hand_eye import HandEyeMap
from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.calibrating.calibration import saved_calibration
from robot_agent.calibrating.described_camera import described_map
from robot_agent.calibrating.marker_board import MarkerBoard
from robot_agent.config import AgentConfig, CameraDescription
from robot_agent.delivery.outbox_file import claim
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.robots.simulated import true_hand_eye_map
from robot_agent.safety.stop_latch import STOP_FILE, Stop, StopLatch
from tests.delivery_site import ROOT
from tests.emulators.feetech_servos import FeetechLine, FeetechServo
from tests.emulators.pty_port import PtyPort
from tests.emulators.servo_mechanics import FreeShafts, Shaft
from tests.robot_agent.calibrating import board_camera
from tests.robot_agent.calibrating.seen_board import seen, transform
from tests.robot_agent.robots.emulated_arms import calibration_of
from tests.robot_agent.simulated_agent import SIMULATED_CAMERA, WORKSPACE
from tests.waiting import PATIENCE_S, wait_until

POINTS = workspace_points(WORKSPACE.x_m, WORKSPACE.y_m)
CAMERA = {
    "position_m": [-0.34, -0.10, 0.46],
    "look_at_m": [0.0, 0.0, 0.028],
    "vertical_fov_deg": 31.0,
}
COMMAND = [sys.executable, "-m", "robot_agent", "calibrate"]
AT_ITS_TERMINAL = ["setsid", "--ctty", *COMMAND]
"""Whose standard input is then the terminal that it is controlled from, as a person's is."""
SO101_JOINTS = ArmModel.load("so101").joints
Table = dict[str, Any]


def make_table(folder: Path) -> Table:
    return {
        "name": "robot-1",
        "state_folder": "state",
        "secret_key": "robot.secret",
        "robot": {"driver": "robot_agent.robots.simulated:SimulatedRobot", "options": {"seed": 1}},
        "camera": {"driver": SIMULATED_CAMERA},
        "workspace": {"x_m": [-0.1, 0.1], "y_m": [-0.07, 0.07], "z_m": [0.0, 0.14]},
        "camera_description": CAMERA,
        "learner": {
            "episodes": "tcp://127.0.0.1:1",
            "releases": "tcp://127.0.0.1:2",
            "public_key": "server.public",
            "release_key": "release.public",
        },
    }


def calibrate(
    folder: Path, table: Table, *options: str, asks: bool = False
) -> subprocess.CompletedProcess[str]:
    toml = folder / "robot.toml"
    toml.write_text(toml_text(table))
    alone = () if asks else ("--record-seconds", "2")
    return subprocess.run(
        [*COMMAND, "--config", str(toml), *alone, *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def kept_map(folder: Path) -> HandEyeMap:
    saved = saved_calibration(load_toml(folder / "robot.toml", AgentConfig))
    assert saved is not None
    return saved.hand_eye_map


@pytest.mark.slow
def test_a_robot_without_joints_of_ours_finds_its_hand_eye_map_and_keeps_it(tmp_path: Path):
    done = calibrate(tmp_path, make_table(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Clear its reach" in done.stdout
    assert "Hand-eye map found" in done.stdout
    assert kept_map(tmp_path).error_m(true_hand_eye_map({"seed": 1}), POINTS) < 0.004


def test_a_board_that_lies_before_the_camera_gives_the_map_to_half_a_millimetre(tmp_path: Path):
    board = MarkerBoard(columns=7, rows=5, square_m=0.025)
    description = CameraDescription(
        position_m=(-0.33, -0.09, 0.47), look_at_m=(0.01, 0.0, 0.02), vertical_fov_deg=32.0
    )
    truth = described_map(description)
    place = GripperPose(x_m=0.01, y_m=-0.02, z_m=0.003, yaw_rad=np.deg2rad(20.0))
    (tmp_path / "pictures").mkdir()
    picture = seen(board, transform(place), truth, (640, 640))
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), picture)
    table = make_table(tmp_path)
    table["camera"] = {
        "driver": "robot_agent.cameras.recorded:RecordedCamera",
        "options": {"path": str(tmp_path / "pictures"), "fps": 0.0},
    }
    options = "--only board --squares 7 5 --square-mm 25 --board-at 0.01 -0.02 0.003 20"
    done = calibrate(tmp_path, table, *options.split())
    assert done.returncode == 0, done.stderr
    assert "24 corners seen" in done.stdout
    off_m = kept_map(tmp_path).error_m(truth, POINTS)
    print(f"{off_m * 1e3:.2f} mm off; {done.stdout.splitlines()[-1]}")
    assert off_m < 0.0005


def test_a_board_in_the_hand_gives_the_map_and_the_hand_lets_go_of_it(tmp_path: Path):
    table = make_table(tmp_path)
    table["camera"] = {"driver": "tests.robot_agent.calibrating.board_camera:BoardCamera"}
    above_mm = str(board_camera.ABOVE_TIPS_M * 1e3)
    done = calibrate(tmp_path, table, "--only", "board", "--board-above-tips-mm", above_mm)
    assert done.returncode == 0, done.stderr
    assert "Take the board" in done.stdout
    off_m = kept_map(tmp_path).error_m(board_camera.TRUTH, POINTS)
    print(f"{off_m * 1e3:.2f} mm off; {done.stdout.splitlines()[-1]}")
    assert off_m < 0.002


class Person:
    """Moves all joints through their ranges once asked, again and again."""

    def __init__(self) -> None:
        self.asked = Event()
        self.has_moved = Event()
        """Set after two whole swings."""


@contextmanager
def moved_so101(folder: Path) -> Iterator[tuple[Path, FeetechLine, Person]]:
    """Serve an SO-101 whose joints stand at zero until the person is asked to move them."""
    mechanics = FreeShafts()
    for servo_id in range(1, 7):
        mechanics.shafts[servo_id] = Shaft()
    mechanics.blocks[6] = (-0.3, 0.4)
    line = FeetechLine([FeetechServo(servo_id=one) for one in range(1, 7)], mechanics=mechanics)
    stopping, person = Event(), Person()

    def move() -> None:
        swing = 0.0
        while not stopping.wait(0.01):
            swing += 0.05 if person.asked.is_set() else 0.0
            if swing > 4 * np.pi:
                person.has_moved.set()
            share = np.sin(swing)
            for servo_id, joint in enumerate(SO101_JOINTS, start=1):
                end_rad = joint.upper_rad if share > 0 else -joint.lower_rad
                mechanics.shafts[servo_id].position_rad = float(end_rad * share)

    with PtyPort(line, folder / "port") as port:
        moving = Thread(target=move)
        moving.start()
        try:
            yield port.path, line, person
        finally:
            stopping.set()
            moving.join()


@contextmanager
def at_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command at a terminal of its own; yield it, and the terminal's other end."""
    ours, its = os.openpty()
    with subprocess.Popen(
        [*AT_ITS_TERMINAL, *arguments], cwd=ROOT, stdin=its, stdout=its, stderr=its
    ) as running:
        os.close(its)
        try:
            yield running, ours
        finally:
            running.kill()
            os.close(ours)


def answer(terminal: int, texts: list[str], person: Person, last: bytes = b"\n") -> str:
    """Press Enter when each of the texts was read, or ``last`` at the last one; return everything
    that was said.
    """
    said, heard, left, end_s = "", 0, list(texts), time.monotonic() + 60
    while time.monotonic() < end_s:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            said += os.read(terminal, 4096).decode()
        except OSError:  # the other end is closed
            break
        if left and left[0] in said[heard:]:
            heard = len(said)
            if "done" in left.pop(0):
                # What was asked for comes first.
                person.asked.set()
                assert person.has_moved.wait(PATIENCE_S)
            os.write(terminal, b"\n" if left else last)
    assert not left
    return said


PROMPTS = ["motors go limp", "in the middle of its range", "when that is done"]


def test_a_person_calibrates_an_so101_over_its_cable_at_a_terminal(tmp_path: Path):
    table = make_table(tmp_path)
    toml = tmp_path / "robot.toml"
    with moved_so101(tmp_path) as (port, _, person):
        table["robot"] = {
            "driver": "robot_agent.robots.so101:SO101",
            # The motors are a thread of this process, which shares the machine.
            "options": {"port": str(port), "reply_timeout_s": 1.0},
        }
        toml.write_text(toml_text(table))
        with at_terminal("--config", str(toml), "--only", "joints") as (running, terminal):
            said = answer(terminal, PROMPTS, person)
            running.wait(PATIENCE_S)
        gripper = calibrate(tmp_path, table, "--only", "gripper")
    assert running.returncode == 0, said
    assert gripper.returncode == 0, gripper.stderr
    assert "\x1b[5A" in said  # the readings of five joints, shown in place
    found = JointCalibration.read(tmp_path / "state")
    assert found is not None
    assert [joint.name for joint in found.joints] == [one.name for one in SO101_JOINTS]
    assert found.gripper is not None
    assert found.gripper.open_rad - found.gripper.closed_rad == pytest.approx(0.7, abs=0.02)


def test_ctrl_c_while_the_arm_is_limp_makes_it_hold_still_without_a_calibration(tmp_path: Path):
    table = make_table(tmp_path)
    (tmp_path / "state").mkdir()
    calibration_of("so101").write(tmp_path / "state")
    with moved_so101(tmp_path) as (port, line, _):
        table["robot"] = {
            "driver": "robot_agent.robots.so101:SO101",
            "options": {"port": str(port)},
        }
        (tmp_path / "robot.toml").write_text(toml_text(table))
        with subprocess.Popen(
            [*COMMAND, "--config", str(tmp_path / "robot.toml"), "--record-seconds", "60"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as running:
            assert running.stdout is not None
            said = next(text for text in running.stdout if "Move one joint" in text)
            assert not any(servo.drive().is_on for servo in line.servos.values())
            running.send_signal(signal.SIGINT)
            said += running.stdout.read()
        assert running.returncode == 130, said
        assert all(servo.drive().is_on for servo in line.servos.values())
    assert "stopped; parts that were done are kept" in said
    assert JointCalibration.read(tmp_path / "state") is None


def test_space_while_the_arm_is_limp_makes_it_hold_until_a_person_resumes(tmp_path: Path):
    table = make_table(tmp_path)
    toml = tmp_path / "robot.toml"
    with moved_so101(tmp_path) as (port, line, person):
        table["robot"] = {
            "driver": "robot_agent.robots.so101:SO101",
            # The motors are a thread of this process, which shares the machine.
            "options": {"port": str(port), "reply_timeout_s": 1.0},
        }
        toml.write_text(toml_text(table))
        with at_terminal("--config", str(toml), "--only", "joints") as (running, terminal):
            said = answer(terminal, PROMPTS, person, last=b" ")
            running.wait(PATIENCE_S)
        assert all(line.servos[one].drive().is_on for one in line.servos)
    assert running.returncode == 3, said
    assert "robot-agent: robot-1 was stopped by a key in its terminal, at " in said
    stop = StopLatch(tmp_path / "state").read()
    assert stop is not None
    assert stop.why == "by a key in its terminal"
    assert JointCalibration.read(tmp_path / "state") is None


def test_the_file_stop_while_the_jaw_looks_for_its_ends_makes_it_hold(tmp_path: Path):
    table = make_table(tmp_path)
    (tmp_path / "state").mkdir()
    calibration_of("so101").write(tmp_path / "state")
    with moved_so101(tmp_path) as (port, line, _):
        table["robot"] = {
            "driver": "robot_agent.robots.so101:SO101",
            "options": {"port": str(port)},
        }
        (tmp_path / "robot.toml").write_text(toml_text(table))
        jaw, options = line.servos[6], ["--only", "gripper", "--record-seconds", "1"]
        line.mechanics.blocks[6] = (-2.5, 2.5)  # a long way
        with subprocess.Popen(
            [*COMMAND, "--config", str(tmp_path / "robot.toml"), *options],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            wait_until(lambda: abs(jaw.shaft.velocity_rad_s) > 0.1, "the jaw moves")
            (tmp_path / "state" / STOP_FILE).touch()
            _, said = running.communicate(timeout=60)
        assert running.returncode == 3, said
        assert jaw.drive().is_on
        assert abs(jaw.drive().goal_rad - jaw.shaft.position_rad) < 0.02
    found = JointCalibration.read(tmp_path / "state")
    assert found is not None
    assert found.gripper is None


def with_agent(folder: Path) -> Any:
    return claim(folder / "state")


def stopped(folder: Path) -> None:
    (folder / "state").mkdir()
    StopLatch(folder / "state").set(Stop.now("by its key"))


LYING = ["--only", "board", "--board-at", "0", "0", "0", "0"]


@pytest.mark.parametrize(
    ("prepare", "options", "status", "words"),
    [
        (None, ["--only", "joints"], 2, "has no joints to calibrate; use --only hand-eye"),
        (None, ["--squares", "2", "5"], 2, "marker board: columns = 2"),
        (None, ["--squares", "7", "5"], 2, "options of a board are for --only board"),
        (None, ["--board-above-tips-mm", "20"], 2, "options of a board are for --only board"),
        (None, ["--only", "board"], 2, "--only board needs --board-above-tips-mm"),
        (None, [*LYING, "--board-above-tips-mm", "0"], 2, "and not both"),
        (None, ["--only", "board", "--board-above-tips-mm", "nan"], 2, "-200 to 200"),
        (None, LYING, 1, "0 of 1 pictures show"),
        (with_agent, [], 2, "another agent has it open"),
        (stopped, [], 3, "was stopped by its key"),
    ],
    ids=[
        "no joints",
        "no board",
        "squares without a board",
        "height without a board",
        "neither height nor place",
        "both height and place",
        "no height",
        "not in view",
        "agent runs",
        "stopped",
    ],
)
def test_what_cannot_be_calibrated_ends_with_one_line_that_says_why(
    tmp_path: Path, prepare: Any, options: list[str], status: int, words: str
):
    kept = prepare(tmp_path) if prepare else None
    done = calibrate(tmp_path, make_table(tmp_path), *options)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert words in done.stderr.strip().splitlines()[-1]
    del kept


def test_without_a_terminal_it_says_that_it_asks_a_person(tmp_path: Path):
    done = calibrate(tmp_path, make_table(tmp_path), asks=True)
    assert done.returncode == 2
    assert "needs a terminal; without one give --record-seconds" in done.stderr


def test_a_board_is_printed_without_a_robot(tmp_path: Path):
    done = subprocess.run(
        [*COMMAND, "--print-board", str(tmp_path / "board.pdf")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "75 x 60 mm" in done.stdout
    assert (tmp_path / "board.pdf").read_bytes().startswith(b"%PDF")
