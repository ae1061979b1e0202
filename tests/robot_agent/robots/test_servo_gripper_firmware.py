"""The driver against the gripper's real sketch, compiled for this machine and run on a pty."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from protocol.errors import RobotError
from robot_agent.arms.clock import SystemClock
from robot_agent.config import SafetyConfig
from robot_agent.robots.base import RobotSite
from robot_agent.robots.servo_gripper import Motion, ServoGripper

FIRMWARE = Path(__file__).parents[2] / "firmware"

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
pytestmark = needs_compiler


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("firmware") / "servo_gripper"
    source = FIRMWARE / "servo_gripper.cpp"
    flags = ["-Wall", "-Wextra", "-Werror", "-I", str(FIRMWARE)]
    subprocess.run(["g++", *flags, "-o", str(program), str(source)], check=True)
    return program


Start = Callable[..., Path]


@pytest.fixture
def start(board: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(**environment: str) -> Path:
            near, far = os.openpty()
            tty.setraw(far)
            stack.callback(os.close, far)
            running = subprocess.Popen(
                [board], stdin=near, stdout=near, env=os.environ | environment
            )
            os.close(near)
            stack.callback(running.wait)
            stack.callback(running.kill)
            return Path(os.ttyname(far))

        yield start


@pytest.fixture
def site(tmp_path: Path) -> RobotSite:
    return RobotSite(name="arm-1", state_folder=tmp_path, safety=SafetyConfig(max_grip=0.5))


def open_gripper(port: Path, site: RobotSite) -> ServoGripper:
    return ServoGripper.open({"port": str(port), "travel_s": 0.4}, site, SystemClock())


def test_the_sketch_opens_and_closes(start: Start, site: RobotSite):
    gripper = open_gripper(start(), site)
    assert gripper.opening_m() == pytest.approx(0.030, abs=0.001)
    assert gripper.open_fully() == pytest.approx(0.060, abs=0.001)
    assert gripper.close() == pytest.approx(0.0, abs=0.001)
    gripper.disconnect()


def test_the_sketch_stops_at_the_current_that_it_was_allowed(start: Start, site: RobotSite):
    gripper = open_gripper(start(OBJECT_AT_US="1600"), site)
    gripper.open_fully()
    assert gripper.close() == pytest.approx(0.024, abs=0.001)
    readings = gripper.read()
    assert readings.motion == Motion.GRIPPING
    # 0.6 A, and what the ramp went on in the 60 ms for which more is forgiven.
    assert 1600 < readings.pulse_us < 1950
    gripper.hold()
    assert gripper.read().motion == Motion.GRIPPING
    gripper.disconnect()


@pytest.mark.slow
def test_the_sketch_stops_when_its_host_falls_silent(start: Start, site: RobotSite):
    path = start()
    gripper = open_gripper(path, site)
    gripper.open_fully()
    gripper._ask("goal 2000 200 600")  # a way of five seconds
    gripper.disconnect()
    # Silent for longer than it waits, and for less than the way takes.
    time.sleep(2.5)
    gripper = open_gripper(path, site)
    readings = gripper.read()
    assert readings.motion == Motion.STILL
    assert 1350 <= readings.pulse_us <= 1550
    gripper.disconnect()


def test_the_sketch_answers_no_damaged_line_and_survives_any(start: Start, site: RobotSite):
    path = start()
    with path.open("r+b", buffering=0) as raw:
        for junk in (
            b"#1 goal 2500 100 100*00\n",
            b"*\n",
            b"#*23\n",
            b"x" * 500 + b"\n",
            b"\xff\n",
        ):
            raw.write(junk)
    gripper = open_gripper(path, site)
    readings = gripper.read()
    assert (readings.pulse_us, readings.motion) == (1500, Motion.STILL)
    for refused in ("goal 99 100 100", "goal 1500 0 100", "goal 1500", "dance"):
        with pytest.raises(RobotError, match="refused"):
            gripper._ask(refused)
    gripper.disconnect()
