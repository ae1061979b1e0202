"""What happens to an arm, its agent and its attempts when something breaks in mid-motion.

The agent is the real one; its SO-101 is emulated byte for byte in a process that outlives it. What
became of the arm is read from the servos' own registers. Times from fault to rest are measured by
``python -m tests.benchmarks.bench_arm_faults``; here they have generous deadlines only.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.delivery_site import wait_until
from tests.emulated_arms.robot_cell import SAFETY, RobotCell, robot_cell

SAFE_WITHIN_S = 10.0
"""Hundred times what it takes: the machine may be busy."""
CABLE, BABBLE, STRAIN = "unplug", "is_babbling 3 1", "strains 2 1"
MENDS = {CABLE: "plug", BABBLE: "is_babbling 3 0", STRAIN: "strains 2 0"}
REASONS = {
    CABLE: "the port is gone",
    BABBLE: "servo 3 did not answer",
    STRAIN: "motor shoulder_lift reports: overload",
}


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RobotCell]:
    with robot_cell(tmp_path_factory.mktemp("cell"), is_hurried=True) as cell:
        yield cell


def aborted(cell: RobotCell) -> int:
    return cell.status().recent.lower().count("a")


def await_rest_since(cell: RobotCell, fault_s: float) -> None:
    """Wait until the arm stood still after the fault, or did so already."""

    def rested() -> bool:
        history = cell.arm.history()
        return history.is_at_rest or bool(history.rests_s) and history.rests_s[-1] > fault_s

    wait_until(rested, "the arm stands still", SAFE_WITHIN_S)


def await_hold(cell: RobotCell) -> None:
    """Wait for the safe state."""

    def is_held() -> bool:
        history = cell.arm.history()
        return history.is_at_rest and 0 < history.torque <= SAFETY["hold_torque"] + 1e-3

    wait_until(is_held, "the arm is held with limited torque", SAFE_WITHIN_S)


@pytest.mark.parametrize("fault", [CABLE, BABBLE, STRAIN])
def test_a_fault_that_passes_costs_the_attempt_and_the_agent_goes_on(
    hurried: RobotCell, fault: str
):
    hurried.resume()
    before = aborted(hurried)
    await_rest_since(hurried, hurried.act(fault))
    wait_until(lambda: aborted(hurried) > before, "the attempt arrives as aborted")
    hurried.act(MENDS[fault])
    hurried.await_attempts(1)
    assert "attempt aborted: robot-1: " in hurried.log
    assert REASONS[fault] in hurried.log
    assert hurried.agent.poll() is None
    assert hurried.latch.read() is None


def test_an_agent_that_is_killed_leaves_a_held_arm_and_all_that_it_finished(hurried: RobotCell):
    hurried.resume()
    hurried.agent.kill()
    await_hold(hurried)
    finished = hurried.attempts()
    wait_until(lambda: "its agent died; the arm holds still" in hurried.log, "the guard says so")
    assert hurried.latch.read() is not None
    hurried.resume()
    wait_until(lambda: hurried.status().stored > finished, "what was finished arrives")
    assert hurried.status().missing == 0


def test_a_stop_by_file_leaves_a_held_arm_and_an_aborted_attempt(hurried: RobotCell):
    hurried.resume()
    before = aborted(hurried)
    (hurried.state / "STOP").touch()
    await_hold(hurried)
    assert hurried.agent.wait(60) == 3
    assert aborted(hurried) == before + 1
    await_hold(hurried)
