"""The emergency stop by itself: what it tries again, what it heeds, and when it says it is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import ConfigurationError, RobotError, SafetyFault
from protocol.messages import Stop as StopMessage
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.stop_latch import Stop, StopLatch
from robot_agent.safety.stop_orders import StopOrders
from robot_agent.safety.watchdog import Watchdog
from robot_agent.safety.watched_parts import Watch
from tests.robot_agent.drawn_robot import DrawnRobot
from tests.waiting import wait_until

ORDER = StopMessage(order_id=b"o" * 16, by="operator")


class StubbornRobot(DrawnRobot):
    """Cannot be stopped as long as ``trouble`` is set."""

    def __init__(self, trouble: Exception | None = None) -> None:
        super().__init__()
        self.trouble = trouble
        self.tries = self.stops = 0

    def stop(self) -> None:
        self.tries += 1
        if self.trouble is not None:
            raise self.trouble
        self.stops += 1


@pytest.fixture
def latch(tmp_path: Path) -> StopLatch:
    return StopLatch(tmp_path)


@pytest.fixture
def emergency(latch: StopLatch) -> Iterator[EmergencyStop]:
    with EmergencyStop("arm-1", latch) as emergency:
        yield emergency


@pytest.mark.parametrize(
    "trouble",
    [RobotError("no answer"), ConfigurationError("the port is taken"), OSError("odd driver")],
    ids=["no answer", "port taken", "foreign error"],
)
def test_a_robot_that_cannot_be_stopped_is_tried_until_it_holds_still(
    emergency: EmergencyStop, trouble: Exception
):
    robot = StubbornRobot(trouble)
    emergency.protect(robot)
    emergency.pull("by hand")
    wait_until(lambda: robot.tries >= 3, "it is tried again")
    assert not emergency.is_held
    robot.trouble = None
    wait_until(lambda: emergency.is_held, "it holds still")
    tries = robot.tries
    emergency.pull("by another hand")
    assert (robot.stops, robot.tries) == (1, tries)


def test_an_order_is_confirmed_only_once_the_robot_holds_still(
    tmp_path: Path, emergency: EmergencyStop
):
    robot = StubbornRobot(RobotError("no answer"))
    emergency.protect(robot)
    orders = StopOrders(tmp_path, emergency)
    assert orders.obey(ORDER) is None
    robot.trouble = None
    wait_until(lambda: emergency.is_held, "it holds still")
    answer = orders.obey(ORDER)
    assert answer is not None
    assert not answer.resumed


def test_an_order_whose_halt_failed_stops_the_robot_no_more_once_a_person_resumed_it(
    tmp_path: Path, latch: StopLatch
):
    with EmergencyStop("arm-1", latch) as emergency:
        emergency.protect(StubbornRobot(RobotError("no answer")))
        assert StopOrders(tmp_path, emergency).obey(ORDER) is None
    latch.release(latch.stops())
    with EmergencyStop("arm-1", latch) as emergency:
        answer = StopOrders(tmp_path, emergency).obey(ORDER)
        assert answer is not None
        assert answer.resumed
        assert emergency.pulled is None


def test_an_order_is_not_confirmed_before_the_stop_is_on_disk(tmp_path: Path):
    state = tmp_path / "state"
    state.mkdir()
    latch = StopLatch(state)
    with EmergencyStop("arm-1", latch) as emergency:
        emergency.protect(StubbornRobot())
        away = state.rename(tmp_path / "unmounted")
        state.touch()
        assert StopOrders(state, emergency).obey(ORDER) is None
        state.unlink()
        away.rename(state)
        wait_until(lambda: emergency.is_held, "it is kept on disk")
        assert StopOrders(state, emergency).obey(ORDER) is not None
    assert latch.read() == emergency.pulled


def test_a_robot_that_was_left_to_its_guard_is_neither_touched_nor_called_held(
    emergency: EmergencyStop, latch: StopLatch
):
    robot = StubbornRobot(RobotError("no answer"))
    emergency.protect(robot)
    emergency.pull("by hand")
    emergency.leave()
    tries = robot.tries
    robot.trouble = None
    wait_until(lambda: latch.is_kept, "the stop is on disk")
    assert not emergency.is_held
    assert (robot.stops, robot.tries) == (0, tries)


def test_a_stop_that_another_process_latches_is_heeded_and_left_as_it_is(
    emergency: EmergencyStop, latch: StopLatch
):
    robot = StubbornRobot()
    emergency.protect(robot)
    stop = Stop(why="by the guard of an agent before", at_ns=1_000_000_000)
    latch.set(stop)
    wait_until(lambda: emergency.is_held, "it is heeded")
    assert robot.stops == 1
    assert latch.read() == emergency.pulled == stop


def test_a_motion_that_fails_in_any_way_after_a_stop_is_the_stops_doing(emergency: EmergencyStop):
    watch = Watch(Watchdog("arm-1", None), emergency)
    with pytest.raises(SafetyFault, match="was stopped by hand"), watch.call():
        emergency.pull("by hand")
        raise ConfigurationError("the port is taken since its cable was out")


@pytest.fixture
def looping_stop_file(tmp_path: Path) -> Path:
    """A file STOP that cannot even be looked for: a link to itself (ELOOP), also for root."""
    file = tmp_path / "STOP"
    file.symlink_to(file)
    return file


def test_a_stop_file_that_cannot_be_looked_for_counts_as_one(
    emergency: EmergencyStop, tmp_path: Path, request: pytest.FixtureRequest
):
    robot = StubbornRobot()
    emergency.protect(robot)
    request.getfixturevalue("looping_stop_file")
    wait_until(lambda: emergency.is_held, "it is stopped")
    assert robot.stops == 1
    assert "nobody can look for" in emergency.pulled.why


def test_a_robot_with_a_stop_file_that_cannot_be_looked_for_does_not_start(
    latch: StopLatch, looping_stop_file: Path
):
    with pytest.raises(SafetyFault, match="nobody can look for"):
        EmergencyStop("arm-1", latch).start()


class BrokenLatch(StopLatch):
    """Fails as nobody foresaw."""

    breaks = False

    def stops(self) -> list[Stop]:
        if self.breaks:
            raise RuntimeError("nobody foresaw this")
        return super().stops()


def test_an_emergency_stop_that_fails_in_an_unforeseen_way_stops_the_robot(tmp_path: Path):
    robot, latch = StubbornRobot(), BrokenLatch(tmp_path)
    with EmergencyStop("arm-1", latch) as emergency:
        emergency.protect(robot)
        latch.breaks = True
        wait_until(lambda: emergency.is_held, "it is stopped")
    assert robot.stops == 1
    assert "nobody foresaw this" in StopLatch(tmp_path).read().why


def test_only_stops_that_were_shown_are_resumed(tmp_path: Path, latch: StopLatch):
    latch.set(Stop.now("by a key in its terminal"))
    shown = latch.stops()
    (tmp_path / "STOP").touch()
    with pytest.raises(SafetyFault, match="stopped again meanwhile by the file STOP"):
        latch.release(shown)
    shown = latch.stops()
    latch.set(Stop.now("by its guard, because its agent died; the arm may not hold still"))
    with pytest.raises(SafetyFault, match="stopped again meanwhile by its guard"):
        latch.release(shown)
    os.utime(tmp_path / "STOP", ns=(1, 1))
    assert len(latch.stops()) == 2
    latch.release(latch.stops())
    assert latch.read() is None


def test_a_latch_that_cannot_be_read_can_be_resumed(tmp_path: Path, latch: StopLatch):
    (tmp_path / "stopped.json").write_text("{")
    shown = latch.stops()
    assert "cannot be read" in shown[0].why
    latch.release(shown)
    assert latch.read() is None
