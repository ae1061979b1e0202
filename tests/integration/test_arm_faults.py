"""What happens to an arm, its agent and its attempts when something breaks in mid-motion.

The agent is the real one; its SO-101 is emulated byte for byte in a process that outlives it. What
became of the arm is read from the servos' own registers. How long that takes is measured by
``python -m tests.benchmarks.bench_arm_faults``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.emulated_arms.arm_faults import (
    FINAL,
    KILLED,
    PASSING,
    ArmFault,
    hold_after_s,
    is_held,
    rest_after_s,
    strike,
)
from tests.emulated_arms.robot_cell import RobotCell, robot_cell
from tests.emulators.v4l2_camera import SIZE_PX, build, emulated_camera
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RobotCell]:
    with robot_cell(tmp_path_factory.mktemp("cell"), is_hurried=True) as cell:
        yield cell


def aborted(cell: RobotCell) -> int:
    return cell.status().recent.lower().count("a")


@pytest.mark.parametrize(
    "fault",
    [
        PASSING[0],
        pytest.param(PASSING[1], marks=pytest.mark.slow),
        PASSING[2],
    ],
    ids=str,
)
def test_what_passes_costs_one_attempt_and_the_agent_goes_on(hurried: RobotCell, fault: ArmFault):
    hurried.resume()
    before = aborted(hurried)
    rest_after_s(hurried, strike(hurried, fault))
    wait_until(lambda: aborted(hurried) == before + 1, "the attempt arrives as aborted")
    fault.mend(hurried)
    hurried.await_attempts(1)
    wait_until(lambda: fault.says in hurried.log, "it says so")
    assert hurried.agent.poll() is None
    assert hurried.latch.read() is None


def test_an_agent_that_is_killed_leaves_a_held_arm_and_all_that_it_finished(hurried: RobotCell):
    hurried.resume()
    hurried.stop_gateway()
    hurried.await_attempts(1)
    hold_after_s(hurried, KILLED, strike(hurried, KILLED))
    finished = hurried.attempts()
    wait_until(lambda: KILLED.says in hurried.log, "it says so")
    hurried.start_gateway()
    hurried.resume()
    wait_until(lambda: hurried.status().stored >= finished, "what was finished arrives")
    assert hurried.status().missing == 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", FINAL, ids=str)
def test_what_only_a_person_mends_ends_in_an_arm_that_holds_still(
    hurried: RobotCell, fault: ArmFault
):
    hurried.resume()
    before = aborted(hurried)
    hold_after_s(hurried, fault, strike(hurried, fault))
    held_rad = hurried.arm.history().positions_rad
    if fault is not KILLED:
        wait_until(lambda: aborted(hurried) > before, "the attempt arrives as aborted")
    wait_until(lambda: fault.says in hurried.log, "it says so")
    assert is_held(hurried.arm)
    np.testing.assert_array_equal(hurried.arm.history().positions_rad, held_rad)
    fault.mend(hurried)


@pytest.mark.slow
def test_an_arm_whose_cable_is_out_when_its_agent_dies_is_held_once_it_is_in_again(
    hurried: RobotCell,
):
    hurried.resume()
    hurried.arm.order("unplug")
    hurried.agent.kill()
    wait_until(lambda: "the arm may not hold still" in hurried.log, "the guard tried")
    hurried.arm.order("plug")
    wait_until(lambda: is_held(hurried.arm), "the arm is held")
    wait_until(lambda: "the arm holds still" in hurried.latch.read().why, "the stop says so")


@pytest.mark.slow
def test_motors_that_let_go_while_the_outbox_has_no_room_are_held_and_the_attempt_is_kept(
    tmp_path: Path,
):
    with robot_cell(tmp_path, is_hurried=True, outbox={"max_bytes": 1000}) as cell:
        cell.resume()
        wait_until(lambda: "the robot waits" in cell.log, "a full outbox")
        assert cell.attempts() == 0
        cell.arm.order("brown_out")
        assert cell.agent.wait(PATIENCE_S) == 3
        assert "switched itself off" in cell.log
        assert is_held(cell.arm)
        assert cell.attempts() == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["is_picture_frozen", "is_silent"])
def test_a_camera_that_freezes_costs_one_attempt_and_the_agent_goes_on(tmp_path: Path, how: str):
    library = build(tmp_path)
    if library is None:
        pytest.skip("no C compiler, or no headers of the kernel, to build an emulated camera with")
    width_px, height_px = SIZE_PX
    noise = np.random.default_rng(0).integers(0, 255, (64, height_px, width_px, 3), np.uint8)
    options = {
        "capture_width_px": width_px,
        "capture_height_px": height_px,
        "fps": 100.0,
        "settle_s": 0.0,
    }
    with emulated_camera(tmp_path / "camera", library, list(noise)) as camera:
        table = {
            "driver": "robot_agent.cameras.usb:UsbCamera",
            "options": {**options, "device": camera.path},
        }
        (tmp_path / "cell").mkdir()
        with robot_cell(
            tmp_path / "cell", is_hurried=True, camera=table, environment=camera.environment
        ) as cell:
            cell.resume()
            setattr(camera.board, how, 1)
            wait_until(lambda: aborted(cell) == 1, "the attempt arrives as aborted")
            wait_until(lambda: cell.arm.history().is_at_rest, "the arm stands still")
            setattr(camera.board, how, 0)
            cell.await_attempts(2)
            assert "no new picture within 2 s" in cell.log
            assert cell.agent.poll() is None
            assert cell.latch.read() is None
