"""What becomes of an arm whose agent dies, stalls or is stopped: real processes, a real line."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from robot_agent.safety.guard import AT_REST, AT_WORK, SAFE, watch
from robot_agent.safety.stop_latch import StopLatch
from tests.robot_agent.safety.moving_arm import guard_of, is_gone, moving_arm
from tests.robot_agent.safety.recorder import Recorder
from tests.robot_agent.safety.wire_robot import CLOSED, HOLD, MAY_HOLD, SET_POINT, STOPPED
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path / "port") as recorder:
        yield recorder


def is_held(line: Recorder) -> bool:
    return bool(line.lines) and line.lines[-1][1] == HOLD


def why_stopped(folder: Path) -> str:
    stop = StopLatch(folder).read()
    return stop.why if stop is not None else ""


def test_an_arm_whose_agent_is_killed_in_a_motion_is_held_still(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line) as agent:
        guard = guard_of(agent)
        agent.kill()
        wait_until(lambda: is_held(line), "the arm is held")
        wait_until(lambda: is_gone(guard), "the guard ends")
    assert why_stopped(tmp_path) == ("by its guard, because its agent died; the arm holds still")
    assert line.count(HOLD) == 1


@pytest.mark.slow
def test_a_guard_outlives_whatever_kills_the_agents_process_group(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line) as agent:
        os.killpg(agent.pid, signal.SIGKILL)
        wait_until(lambda: is_held(line), "the arm is held")


@pytest.mark.slow
def test_a_guard_that_is_told_to_end_stays_as_long_as_it_is_needed(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line) as agent:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(guard_of(agent), number)
        agent.kill()
        wait_until(lambda: is_held(line), "the arm is held")


def test_an_agent_that_hangs_in_a_motion_is_ended_and_the_arm_held(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line, stall_s=0.5, hangs=3) as agent:
        wait_until(lambda: is_held(line), "the arm is held")
        assert agent.wait(PATIENCE_S) == -signal.SIGKILL
        wait_until(lambda: why_stopped(tmp_path) != "", "the stop is kept")
    assert "its agent made no progress for 0.5 s and was ended" in why_stopped(tmp_path)


def test_an_agent_whose_camera_freezes_is_ended_and_the_arm_held(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line, stall_s=0.5, frozen_after=3) as agent:
        wait_until(lambda: is_held(line), "the arm is held")
        assert agent.wait(PATIENCE_S) == -signal.SIGKILL


@pytest.mark.slow
def test_an_agent_that_is_suspended_is_ended_and_the_arm_held(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line, stall_s=0.5, motion_s=60) as agent:
        agent.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_held(line), "the arm is held")
        assert agent.wait(PATIENCE_S) == -signal.SIGKILL


def test_an_agent_that_ends_in_order_needs_no_guard(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line) as agent:
        guard = guard_of(agent)
        os.killpg(agent.pid, signal.SIGINT)
        assert agent.wait(PATIENCE_S) == 0
        wait_until(lambda: is_gone(guard), "the guard ends")
    assert line.lines[-1][1] == CLOSED
    assert line.count(HOLD) == 0
    assert why_stopped(tmp_path) == ""


def test_a_robot_that_rests_needs_no_sign_of_life(tmp_path: Path, line: Recorder):
    """A decision between two attempts may take longer than a motion may stall."""
    with moving_arm(tmp_path, line, stall_s=0.5, motion_s=0.15, rest_s=0.8):
        moved = line.count(SET_POINT)
        wait_until(lambda: line.count(SET_POINT) > moved + 20, "it moves after a rest")
        assert why_stopped(tmp_path) == ""


def test_an_arm_whose_cable_is_out_is_held_when_it_is_plugged_in_again(
    tmp_path: Path, line: Recorder
):
    with moving_arm(tmp_path, line) as agent:
        agent.send_signal(signal.SIGSTOP)
        line.unplug()
        agent.kill()
        wait_until(lambda: "may not hold still" in why_stopped(tmp_path), "a first try failed")
        line.plug()
        wait_until(lambda: is_held(line), "the arm is held")
        wait_until(lambda: "the arm holds still" in why_stopped(tmp_path), "the stop says so")


def test_the_robot_is_stopped_while_its_guard_still_tries_to_hold_it(
    tmp_path: Path, line: Recorder
):
    with moving_arm(tmp_path, line, hold_waits=1) as agent:
        agent.kill()
        try:
            wait_until(lambda: why_stopped(tmp_path) != "", "the stop is kept")
            assert why_stopped(tmp_path).endswith("its agent died; the arm is being held")
        finally:
            (tmp_path / MAY_HOLD).touch()
        wait_until(lambda: why_stopped(tmp_path).endswith("the arm holds still"), "it is held")


def test_an_arm_that_its_agent_could_not_bring_to_its_safe_state_is_held(
    tmp_path: Path, line: Recorder
):
    with moving_arm(tmp_path, line, close_fails=1) as agent:
        agent.send_signal(signal.SIGINT)
        wait_until(lambda: is_held(line), "the arm is held")
        assert agent.wait(PATIENCE_S) == 1
        wait_until(lambda: why_stopped(tmp_path).endswith("the arm holds still"), "it says so")
    assert "its agent could not bring it to its safe state" in why_stopped(tmp_path)
    assert line.count(HOLD) == 1


def test_an_arm_that_its_agent_cannot_stop_is_held_by_its_guard(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line, stop_fails=1, close_fails=1) as agent:
        agent.send_signal(signal.SIGUSR1)
        wait_until(lambda: is_held(line), "the arm is held")
        assert agent.wait(PATIENCE_S) == 3
        wait_until(lambda: why_stopped(tmp_path).endswith("the arm holds still"), "it says so")
    assert why_stopped(tmp_path).startswith(
        "by the signal SIGUSR1; by its guard, because its agent"
    )


@pytest.mark.parametrize(
    ("last", "why"),
    [(AT_REST, "its agent died"), (AT_WORK, "its agent died"), (SAFE, "")],
    ids=["at rest", "at work", "safe"],
)
def test_an_agents_death_is_seen_though_another_process_has_its_pipe(last: bytes, why: str):
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, "rb", buffering=0),
        os.fdopen(writing, "wb", buffering=0),  # as a process that the agent forked has it
        subprocess.Popen(["sleep", "600"]) as agent,
        os.fdopen(os.pidfd_open(agent.pid), "rb", buffering=0) as pidfd,
        ThreadPoolExecutor(1) as guard,
    ):
        os.write(writing, last)
        watched = guard.submit(watch, reading, pidfd.fileno(), 600.0)
        agent.kill()
        try:
            assert watched.result(20) == why
        finally:
            os.write(writing, SAFE)


def test_no_arm_moves_without_its_guard(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line) as agent:
        os.kill(guard_of(agent), signal.SIGKILL)
        assert agent.wait(PATIENCE_S) == 3
    assert line.count(STOPPED) >= 1
    assert "the process that guards the arm has ended" in why_stopped(tmp_path)


@pytest.mark.parametrize("how", ["file", "signal"])
def test_a_stop_ends_the_motion_under_way(tmp_path: Path, line: Recorder, how: str):
    with moving_arm(tmp_path, line, motion_s=600) as agent:
        if how == "file":
            (tmp_path / "STOP").touch()
        else:
            agent.send_signal(signal.SIGUSR1)
        assert agent.wait(PATIENCE_S) == 3
    told = [one for _, one in line.lines]
    assert SET_POINT not in told[told.index(STOPPED) + 2 :]
    assert told[-1] == CLOSED
    words = {"file": "by the file STOP in its state folder", "signal": "by the signal SIGUSR1"}
    assert why_stopped(tmp_path) == words[how]
