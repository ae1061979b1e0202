"""A G-code board that restarts has forgotten what it was told; a Marlin, where its zero is too."""

from __future__ import annotations

import pytest

from protocol.episode import GripperPose
from protocol.errors import PoseUnknownError, RobotError
from robot_agent.checks.arm import check_pose
from robot_agent.robots.gcode_arm import GcodeArm
from tests.robot_agent.robots.gcode_bench import ABOVE_BIN, Bench
from tests.waiting import wait_until


def _restart(bench: Bench) -> None:
    controller = bench.controller
    controller.is_to_restart = True
    wait_until(
        lambda: not controller.is_to_restart and not controller._said,
        "it has started, and said so",
    )


def _restart_by_cable(bench: Bench) -> None:
    bench.line.unplug()
    _restart(bench)  # which nobody hears
    bench.line.plug()


def _move_again(arm: GcodeArm, bench: Bench) -> list[float]:
    """Ask for the same place until the arm goes there; return where it then truly is."""

    def moves() -> bool:
        try:
            arm.move_to(ABOVE_BIN)
        except RobotError:
            return False
        return True

    wait_until(moves, "the arm moves again")
    return bench.controller.true_tip_mm


def test_a_marlin_that_lost_its_supply_for_a_moment_homes_before_it_moves(marlin: Bench):
    with marlin.opened() as arm:
        arm.move_to(ABOVE_BIN)
        before = marlin.controller.true_tip_mm
        _restart(marlin)
        moves = len(marlin.controller.feeds_mm_min)
        with pytest.raises(RobotError, match=r"arm-1: .*restarted"):
            arm.move_to(ABOVE_BIN)
        assert len(marlin.controller.feeds_mm_min) == moves
        assert _move_again(arm, marlin) == pytest.approx(before, abs=0.01)
    assert marlin.controller.commands.count("G28") == 2


def test_a_marlin_whose_cable_was_out_homes_before_it_moves(marlin: Bench):
    with marlin.opened() as arm:
        arm.move_to(ABOVE_BIN)
        before = marlin.controller.true_tip_mm
        _restart_by_cable(marlin)
        assert _move_again(arm, marlin) == pytest.approx(before, abs=0.01)
    assert marlin.controller.commands.count("G28") == 2


def test_a_marlin_that_restarts_in_a_motion_ends_it_and_homes(marlin: Bench):
    with marlin.opened() as arm:
        arm.move_to(ABOVE_BIN)
        before = marlin.controller.true_tip_mm
        marlin.controller.is_to_restart_in_motion = True
        with pytest.raises(RobotError, match=r"arm-1: .*restarted"):
            arm.retreat()
        assert _move_again(arm, marlin) == pytest.approx(before, abs=0.01)


@pytest.mark.parametrize("restart", [_restart, _restart_by_cable])
def test_no_place_is_told_of_a_marlin_that_has_restarted(marlin: Bench, restart: object):
    assert callable(restart)
    with marlin.opened() as arm:
        arm.move_to(ABOVE_BIN)
        restart(marlin)
        for _ in range(3):
            with pytest.raises(RobotError):
                arm.state()
        _move_again(arm, marlin)
        assert arm.state().pose.x_m == pytest.approx(ABOVE_BIN.x_m, abs=1e-5)


def test_before_its_first_motion_nobody_knows_where_a_marlin_is_and_nothing_is_wrong(
    marlin: Bench,
):
    with marlin.opened() as arm:
        with pytest.raises(PoseUnknownError, match="arm-1: where the hand is nobody knows"):
            arm.state()
        assert [found.verdict for found in check_pose(arm)] == ["ok"]


def test_a_marlin_that_restarted_is_not_parked_at_the_end_but_held(marlin: Bench):
    with marlin.opened() as arm:
        arm.move_to(ABOVE_BIN)
        _restart(marlin)
        moves = len(marlin.controller.feeds_mm_min)
    assert len(marlin.controller.feeds_mm_min) == moves
    assert marlin.controller.are_motors_on


def test_a_uarm_that_restarted_is_switched_on_again_and_parks_first(each_uarm: Bench):
    controller = each_uarm.controller
    with each_uarm.opened() as arm:
        arm.move_to(ABOVE_BIN)
        _restart_by_cable(each_uarm)
        controller.wrist_deg = 30.0
        controller.tips_mm.clear()
        there = _move_again(arm, each_uarm)
        assert there == pytest.approx((240.0, -30.0, 120.0), abs=0.01)
        assert controller.tips_mm[0] == pytest.approx((60.0, 200.0, 140.0))
        assert controller.are_motors_on


def test_a_motion_of_a_uarm_after_an_error_between_motions_switches_the_motors_on(
    each_uarm: Bench,
):
    with each_uarm.opened() as arm:
        arm.move_to(ABOVE_BIN)
        each_uarm.line.unplug()
        with pytest.raises(RobotError):
            arm.state()
        _restart(each_uarm)
        each_uarm.line.plug()
        _move_again(arm, each_uarm)
        assert each_uarm.controller.are_motors_on


def test_a_restart_that_was_met_by_asking_for_the_firmware_homes_too(marlin: Bench):
    with marlin.opened() as arm:
        arm.move_to(ABOVE_BIN)
        before = marlin.controller.true_tip_mm
        _restart(marlin)
        assert [found.verdict for found in arm.checks()] == ["ok", "ok"]
        assert _move_again(arm, marlin) == pytest.approx(before, abs=0.01)


def test_a_wrist_at_an_angle_that_nobody_knows_is_turned_before_it_is_told(marlin: Bench):
    marlin.controller.wrist_deg = 170.0
    with marlin.opened(safety={"max_joint_speed_rad_s": 4.0}) as arm:
        arm.open_gripper()
        assert marlin.controller.wrist_deg == 90.0
        told = [word for word in marlin.controller.commands if word.startswith("M280")]
        assert told == ["M280 P0 S90"]
        arm.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.12, yaw_rad=0.4))
        told = [word for word in marlin.controller.commands if word.startswith("M280")]
        assert len(told) > 2, "from then on it is led"


def test_a_restarted_marlin_has_its_wrist_turned_anew(marlin: Bench):
    with marlin.opened() as arm:
        arm.open_gripper()
        _restart(marlin)
        marlin.controller.wrist_deg = 10.0
        _move_again(arm, marlin)
        told = [word for word in marlin.controller.commands if word == "M280 P0 S90"]
        assert len(told) == 2
