"""A state folder whose disk does not answer keeps nobody from stopping the arm."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.errors import RobotError
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.stop_latch import StopLatch
from tests.robot_agent.safety.moving_arm import guard_of, moving_arm
from tests.robot_agent.safety.recorder import Recorder
from tests.robot_agent.safety.test_emergency_stop import StubbornRobot
from tests.robot_agent.safety.wire_robot import HOLD, SET_POINT, STOPPED
from tests.waiting import wait_until


@contextmanager
def hanging_disk(state: Path) -> Iterator[None]:
    """The latch is a FIFO that nobody writes to: whoever opens it waits."""
    fifo = state / "stopped.json"
    os.mkfifo(fifo)
    try:
        yield
    finally:
        answer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        fifo.unlink()
        os.close(answer)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path / "port") as recorder:
        yield recorder


def move_on(line: Recorder) -> None:
    """Return after so many set points that the latch was looked at meanwhile."""
    moved = line.count(SET_POINT)
    wait_until(lambda: line.count(SET_POINT) > moved + 30, "the arm moves on")


def test_a_signal_stops_the_arm_though_the_disk_hangs(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line) as agent:
        with hanging_disk(tmp_path):
            move_on(line)
            agent.send_signal(signal.SIGUSR1)
            wait_until(lambda: line.count(STOPPED) == 1, "the arm is stopped")
        wait_until(lambda: StopLatch(tmp_path).is_kept, "the stop is on disk")
        assert "SIGUSR1" in StopLatch(tmp_path).read().why


def test_a_guard_holds_the_arm_though_the_disk_hangs(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line) as agent:
        with hanging_disk(tmp_path):
            agent.kill()
            wait_until(lambda: line.lines[-1][1] == HOLD, "the arm is held")
        wait_until(lambda: StopLatch(tmp_path).is_kept, "the stop is on disk")
        assert "its agent died" in StopLatch(tmp_path).read().why


def test_a_stop_that_failed_is_tried_again_though_the_disk_hangs(tmp_path: Path):
    robot = StubbornRobot(RobotError("no answer"))
    with EmergencyStop("arm-1", StopLatch(tmp_path)) as emergency:
        emergency.protect(robot)
        with hanging_disk(tmp_path):
            emergency.pull("by hand")
            wait_until(lambda: robot.tries >= 3, "it is tried again")
            robot.trouble = None
            wait_until(lambda: robot.stops == 1, "it holds still")
            assert not emergency.is_held
        wait_until(lambda: emergency.is_held, "the stop is on disk")


def test_no_signal_for_a_whole_service_takes_its_guard_away(tmp_path: Path, line: Recorder):
    with moving_arm(tmp_path, line) as agent:
        guard = guard_of(agent)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGALRM):
            os.kill(guard, number)
        agent.kill()
        wait_until(lambda: line.lines[-1][1] == HOLD, "the arm is held")
