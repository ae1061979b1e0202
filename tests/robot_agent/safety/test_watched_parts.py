"""What the agent's robot does in its pauses, and what it still can do when it is watched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from protocol.errors import RobotError, SafetyFault
from robot_agent.robots.base import RobotState, TurningRobot
from robot_agent.safety.emergency_stop import EmergencyStop
from robot_agent.safety.stop_latch import StopLatch
from robot_agent.safety.watchdog import Watchdog
from robot_agent.safety.watched_parts import Watch
from tests.robot_agent.drawn_robot import DrawnRobot
from tests.robot_agent.safety.wire_robot import wire_config

NEVER_S = 3600.0
"""A test that waits so long has failed."""


class TroubledRobot(DrawnRobot):
    """Answers with each of ``troubles`` in turn, then as it should."""

    def __init__(self, *troubles: RobotError) -> None:
        super().__init__()
        self._troubles = list(troubles)
        self.looks = self.stops = 0

    def state(self) -> RobotState:
        self.looks += 1
        if self._troubles:
            raise self._troubles.pop(0)
        return super().state()

    def stop(self) -> None:
        self.stops += 1


class TurningDrawnRobot(DrawnRobot):
    """Says which way round its hand is."""

    def hand_yaw_rad(self) -> float:
        return 3.0


@pytest.fixture
def emergency(tmp_path: Path) -> Iterator[EmergencyStop]:
    with EmergencyStop("arm-1", StopLatch(tmp_path)) as emergency:
        yield emergency


@pytest.fixture
def guarded(tmp_path: Path, emergency: EmergencyStop) -> Iterator[Watch]:
    """A watch over a robot that has a guard, as every arm does."""
    watchdog = Watchdog.start(wire_config(tmp_path, tmp_path / "port"))
    with closing(watchdog):
        yield Watch(watchdog, emergency)
        watchdog.note_safe()


def test_an_arm_whose_motors_let_go_in_a_pause_is_stopped_before_the_pause_ends(
    guarded: Watch, emergency: EmergencyStop
):
    robot = TroubledRobot(RobotError("no answer"), SafetyFault("servo 2 switched itself off"))
    guarded.watched_robot(robot)
    with pytest.raises(SafetyFault, match="switched itself off"):
        guarded.pause(Event(), NEVER_S)
    assert (robot.looks, robot.stops) == (2, 1)
    assert "because of a fault: servo 2 switched itself off" in str(emergency.pulled)


def test_a_stop_in_a_pause_ends_it(guarded: Watch, emergency: EmergencyStop):
    robot = guarded.watched_robot(DrawnRobot())
    stopping = Event()
    emergency.wakes(stopping)
    emergency.pull("by hand")
    guarded.pause(stopping, NEVER_S)
    with pytest.raises(SafetyFault, match="was stopped by hand"):
        robot.state()


def test_a_robot_without_a_guard_is_left_alone_in_a_pause(emergency: EmergencyStop):
    robot = TroubledRobot()
    watch = Watch(Watchdog("arm-1", None), emergency)
    watch.watched_robot(robot)
    watch.pause(Event(), 0.01)
    assert robot.looks == 0


def test_a_hand_that_says_which_way_round_it_is_says_so_when_it_is_watched(
    emergency: EmergencyStop,
):
    watch = Watch(Watchdog("arm-1", None), emergency)
    turning = watch.watched_robot(TurningDrawnRobot())
    assert isinstance(turning, TurningRobot)
    assert turning.hand_yaw_rad() == 3.0
    assert not isinstance(watch.watched_robot(DrawnRobot()), TurningRobot)
    emergency.pull("by hand")
    with pytest.raises(SafetyFault):
        turning.hand_yaw_rad()
