"""An arm that ``calibrate`` or ``check --move`` moves: what stops, Ctrl-C and SIGKILL leave of it.

How soon is measured by ``python -m tests.benchmarks.bench_arm_faults``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from robot_agent.safety.stop_latch import BY_FILE, STOP_FILE, Stop, StopLatch
from tests.delivery_site import ROOT
from tests.emulated_arms.arm_faults import is_held
from tests.emulated_arms.hurried_so101 import PACE
from tests.emulated_arms.robot_cell import HURRIED, MOVES_RAD_S, recording, write_robot
from tests.emulated_arms.so101_process import ArmProcess, so101_process
from tests.robot_agent.safety.moving_arm import is_gone
from tests.robot_agent.safety.recorder import Recorder
from tests.robot_agent.safety.slow_to_guard import GUARD_FILE
from tests.robot_agent.safety.wire_agent import agent_toml
from tests.robot_agent.safety.wire_robot import CLOSED, HOLD, STOPPED
from tests.waiting import wait_until

CALIBRATE = ["calibrate", "--only", "hand-eye", "--record-seconds", "1"]
CHECK = ["check", "--move", "--skip", "network", "disk", "clock"]
SLOW = pytest.mark.slow
Stopping = Callable[[subprocess.Popen[str], Path], object]
"""Of a process, and the robot's state folder."""


def by_file(process: subprocess.Popen[str], state: Path) -> None:
    (state / STOP_FILE).touch()


def by_signal(process: subprocess.Popen[str], state: Path) -> None:
    process.send_signal(signal.SIGUSR1)


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmProcess]:
    """An SO-101 that outlives whoever moves it, calibrated, with a camera."""
    write_robot(tmp_path, HURRIED, recording(tmp_path))
    with so101_process(tmp_path / "port") as arm:
        arm.order(f"pace {PACE}")
        yield arm


@contextmanager
def running(folder: Path, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    toml = folder / "robot" / "robot.toml"
    with subprocess.Popen(
        [sys.executable, "-m", "robot_agent", command[0], "--config", str(toml), *command[1:]],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    "command",
    [pytest.param(CALIBRATE, id="calibrate"), pytest.param(CHECK, id="check", marks=[SLOW])],
)
def test_an_arm_is_held_when_what_moves_it_is_killed(
    tmp_path: Path, arm: ArmProcess, command: list[str]
):
    latch = StopLatch(tmp_path / "robot" / "state")
    with running(tmp_path, *command) as process:
        wait_until(lambda: arm.history().speed_rad_s > MOVES_RAD_S, "the arm moves", 60)
        process.kill()
        wait_until(lambda: is_held(arm), "the arm is held")
        wait_until(lambda: "the arm holds still" in str(latch.read()), "the stop is kept")


@pytest.mark.parametrize(
    "command",
    [pytest.param(CALIBRATE, id="calibrate", marks=[SLOW]), pytest.param(CHECK, id="check")],
)
def test_ctrl_c_in_a_motion_leaves_a_held_arm_and_no_stop_to_resume(
    tmp_path: Path, arm: ArmProcess, command: list[str]
):
    with running(tmp_path, *command) as process:
        wait_until(lambda: arm.history().speed_rad_s > MOVES_RAD_S, "the arm moves", 60)
        process.send_signal(signal.SIGINT)
        said = "".join(process.communicate(timeout=60))
    assert process.returncode == 130, said
    assert "stopped; " in said
    assert "Traceback" not in said
    assert is_held(arm)
    assert StopLatch(tmp_path / "robot" / "state").read() is None


@pytest.mark.parametrize(
    ("command", "stop", "why"),
    [
        pytest.param(CALIBRATE, by_file, BY_FILE, id="calibrate, the file"),
        pytest.param(CALIBRATE, by_signal, "by the signal SIGUSR1", id="calibrate", marks=[SLOW]),
        pytest.param(CHECK, by_file, BY_FILE, id="check, the file", marks=[SLOW]),
        pytest.param(CHECK, by_signal, "by the signal SIGUSR1", id="check, the signal"),
    ],
)
def test_a_stop_in_a_motion_leaves_a_held_arm_that_only_a_person_resumes(
    tmp_path: Path, arm: ArmProcess, command: list[str], stop: Stopping, why: str
):
    state = tmp_path / "robot" / "state"
    with running(tmp_path, *command) as process:
        wait_until(lambda: arm.history().speed_rad_s > MOVES_RAD_S, "the arm moves", 60)
        stop(process, state)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert said.splitlines()[-1].startswith(f"robot-agent: robot-1 was stopped {why}, at ")
    assert is_held(arm)
    kept = StopLatch(state).read()
    assert kept is not None
    assert kept.why == why


@pytest.mark.parametrize("command", [CALIBRATE, CHECK], ids=["calibrate", "check"])
def test_a_robot_that_is_stopped_is_not_even_opened_to_be_moved(tmp_path: Path, command: list[str]):
    state = agent_toml(tmp_path).parent / "state"
    StopLatch(state).set(Stop.now("by a person"))
    with Recorder(tmp_path / "port") as line, running(tmp_path, *command) as process:
        said, complained = process.communicate(timeout=60)
    assert process.returncode == 3
    assert said == ""
    assert complained.startswith("robot-agent: robot-1 was stopped by a person, at ")
    assert "look at the robot, then run: robot-agent resume --config" in complained
    assert complained.count("\n") == 1
    assert line.lines == []


def test_a_stop_between_motions_of_a_check_is_heeded_before_the_robot_is_closed(tmp_path: Path):
    slow_camera = recording(tmp_path)
    slow_camera["options"]["fps"] = 0.01
    state = agent_toml(tmp_path, camera=slow_camera).parent / "state"
    with Recorder(tmp_path / "port") as line, running(tmp_path, *CHECK) as process:
        assert process.stdout is not None
        assert any("gripper" in text for text in process.stdout)
        by_file(process, state)
        wait_until(lambda: line.count(STOPPED) == 1, "the robot is stopped")
        assert line.count(CLOSED) == 0
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        wait_until(lambda: line.count(CLOSED) == 1, "the robot is closed")


def test_ctrl_c_between_motions_of_a_check_stops_the_arm_before_it_is_closed(tmp_path: Path):
    slow_camera = recording(tmp_path)
    slow_camera["options"]["fps"] = 0.01
    agent_toml(tmp_path, camera=slow_camera)
    with Recorder(tmp_path / "port") as line, running(tmp_path, *CHECK) as process:
        assert process.stdout is not None
        assert any("gripper" in text for text in process.stdout)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        wait_until(lambda: line.count(CLOSED) == 1, "the robot is closed")
    assert process.returncode == 130, said
    assert said == "\nstopped; if the arm moved, it holds still where it is\n"
    assert [told for _, told in line.lines][-2:] == [STOPPED, CLOSED]
    assert line.count(HOLD) == 0


def test_ctrl_c_before_the_guard_is_ready_ends_it_and_leaves_the_arm_alone(tmp_path: Path):
    driver = "tests.robot_agent.safety.slow_to_guard:SlowToGuard"
    toml = agent_toml(tmp_path, robot={"driver": driver, "options": {"port": str(tmp_path)}})
    said = tmp_path / "guard"
    with running(tmp_path, *CHECK, **{GUARD_FILE: str(said)}) as process:
        wait_until(lambda: said.exists() and said.read_text() != "", "the guard loads", 60)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert is_gone(int(said.read_text()))
    assert StopLatch(toml.parent / "state").read() is None
