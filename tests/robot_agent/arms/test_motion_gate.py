"""When an arm may move, and is made ready for it."""

from __future__ import annotations

import pytest

from protocol.errors import RobotError, SafetyFault
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.robots.base import unwatched


class Arm:
    """Counts how often its gate had it made ready."""

    def __init__(self) -> None:
        self.gate = MotionGate("robot-7")
        self.times_made_ready = 0

    def move(self, error: BaseException | None = None) -> None:
        with self.gate.motion(unwatched, self.make_ready):
            if error is not None:
                raise error

    def make_ready(self) -> None:
        self.times_made_ready += 1

    def stop(self) -> None:
        with self.gate.stopping():
            pass


@pytest.fixture
def arm() -> Arm:
    return Arm()


def test_an_arm_is_made_ready_once_for_all_motions_that_go_well(arm: Arm):
    arm.move()
    arm.move()
    assert arm.times_made_ready == 1


def test_an_arm_is_made_ready_again_after_a_stop(arm: Arm):
    arm.move()
    arm.stop()
    assert not arm.gate.is_ready
    arm.move()
    assert arm.times_made_ready == 2


@pytest.mark.parametrize("error", [RobotError("blocked"), KeyboardInterrupt()])
def test_an_arm_is_made_ready_again_after_an_error(arm: Arm, error: BaseException):
    with pytest.raises(type(error)):
        arm.move(error)
    assert not arm.gate.is_ready
    arm.move()
    assert arm.times_made_ready == 2


def test_a_stop_while_an_arm_is_made_ready_ends_its_motion(arm: Arm):
    with (
        pytest.raises(RobotError, match="robot-7: stopped in the middle"),
        arm.gate.motion(unwatched, arm.stop),
    ):
        pytest.fail("it moves")
    assert not arm.gate.is_ready


def test_after_a_fault_nothing_is_asked_of_an_arm_any_more(arm: Arm):
    with pytest.raises(SafetyFault, match="too hot"):
        arm.move(SafetyFault("too hot"))
    with pytest.raises(SafetyFault, match="robot-7: does not move since a fault: too hot"):
        arm.move()
    assert arm.times_made_ready == 1
