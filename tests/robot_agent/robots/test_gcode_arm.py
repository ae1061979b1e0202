"""The G-code arm against an emulated controller, in three firmwares."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, RobotError
from robot_agent.robots.base import GuardedRobot, ReachLimitedRobot, SelfCheckingRobot
from robot_agent.robots.gcode_arm import GcodeArm
from tests.emulators.pty_port import PtyPort
from tests.emulators.robotiq import EmulatedRobotiq
from tests.robot_agent.robots.gcode_bench import ABOVE_BIN, Bench, site


def test_it_is_all_that_an_arm_can_be(bench: Bench):
    with bench.opened() as arm:
        assert isinstance(arm, ReachLimitedRobot)
        assert isinstance(arm, SelfCheckingRobot)
    assert isinstance(GcodeArm, GuardedRobot)


def test_opening_the_port_moves_nothing(each_uarm: Bench):
    arm = each_uarm.open()
    arm.state()
    arm.close()
    assert not each_uarm.controller.are_motors_on
    assert each_uarm.controller.tips_mm == []


def test_the_first_motion_rises_straight_and_parks_slowly(bench: Bench):
    with bench.opened(safety={"max_speed_m_s": 0.2}) as arm:
        arm.move_to(ABOVE_BIN)
    risen, parked, moved, *_ = bench.controller.tips_mm
    assert risen == pytest.approx((150.0, 60.0, 120.0))
    assert parked == pytest.approx((60.0, 200.0, 140.0))
    assert moved == pytest.approx((240.0, -30.0, 120.0))
    assert bench.controller.feeds_mm_min[:3] == [3000.0, 3000.0, 12_000.0]
    assert bench.controller.acceleration == "M204 A1000"


def test_the_hand_ends_where_it_was_sent(each_uarm: Bench):
    with each_uarm.opened() as arm:
        ended = arm.move_to(ABOVE_BIN).pose
        assert ended.as_array()[:3] == pytest.approx(ABOVE_BIN.as_array()[:3], abs=1e-5)
        assert ended.yaw_rad == pytest.approx(ABOVE_BIN.yaw_rad, abs=0.002)


def test_the_wrist_makes_up_for_the_turn_of_the_arm(bench: Bench):
    with bench.opened() as arm:
        straight = GripperPose(x_m=0.0, y_m=0.0, z_m=0.1, yaw_rad=0.0)
        arm.move_to(straight)
        assert bench.controller.wrist_deg == pytest.approx(90.0)
        arm.move_to(GripperPose(x_m=0.0, y_m=0.1, z_m=0.1, yaw_rad=0.0))
        turned_deg = math.degrees(math.atan2(0.1, 0.2))
        assert bench.controller.wrist_deg == pytest.approx(90 - turned_deg, abs=0.1)


def test_a_mount_turns_and_shifts_the_frame(bench: Bench):
    mount = {"x_m": 0.1, "y_m": 0.2, "z_m": -0.03, "yaw_rad": -math.pi / 2}
    parking = {"x_m": -0.1, "y_m": 0.2, "z_m": 0.1}
    with bench.opened(mount=mount, parking=parking) as arm:
        arm.move_to(GripperPose(x_m=0.05, y_m=0.0, z_m=0.06, yaw_rad=0.0))
        assert bench.controller.tips_mm[-1] == pytest.approx((200.0, -50.0, 90.0))


def test_a_half_turn_further_is_told_in_the_same_words(bench: Bench):
    with bench.opened() as arm:
        wanted = GripperPose(x_m=0.04, y_m=-0.03, z_m=0.12, yaw_rad=2.9)
        assert arm.move_to(wanted).pose.yaw_rad == pytest.approx(2.9, abs=0.002)
        assert 0 <= bench.controller.wrist_deg <= 180


def test_no_wrist_turns_faster_than_a_joint_may(bench: Bench):
    with bench.opened(safety={"max_joint_speed_rad_s": 4.0}) as arm:
        arm.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.1, yaw_rad=0.0))
        before = len(bench.controller.commands)
        arm.move_to(GripperPose(x_m=0.0, y_m=0.0, z_m=0.1, yaw_rad=1.0))
    told = [
        float(command.split()[2][1:])
        for command in bench.controller.commands[before:]
        if command.startswith("G2202")
    ]
    steps = [after - earlier for earlier, after in zip([90.0, *told], told, strict=False)]
    assert told[-1] == pytest.approx(math.degrees(1.0) + 90, abs=0.1)
    assert max(steps) <= math.degrees(4.0) * 0.05 + 0.1


def test_what_cannot_be_reached_is_clamped_to_the_annulus_and_the_heights(bench: Bench):
    with bench.opened() as arm:
        far = GripperPose(x_m=0.5, y_m=0.0, z_m=0.9, yaw_rad=0.3)
        nearest = arm.nearest_reachable(far)
        assert (nearest.x_m, nearest.z_m) == pytest.approx((0.11, 0.15))
        assert nearest.yaw_rad == pytest.approx(0.3)
        assert arm.nearest_reachable(ABOVE_BIN) == ABOVE_BIN
        assert arm.move_to(far).pose.x_m == pytest.approx(0.11, abs=1e-4)


def test_the_hand_goes_around_what_is_too_near_to_the_arms_axis(bench: Bench):
    with bench.opened() as arm:
        arm.retreat()
        before = len(bench.controller.tips_mm)
        arm.move_to(arm.nearest_reachable(replace(ABOVE_BIN, x_m=-0.09, y_m=-0.07)))
        ends = np.array(bench.controller.tips_mm[before - 1 :])
    ways = [
        first + np.linspace(0, 1, 50)[:, None] * (last - first) for first, last in pairwise(ends)
    ]
    assert np.linalg.norm(np.concatenate(ways)[:, :2], axis=1).min() >= 109.8


def test_the_tool_says_open_closed_or_holding(each_uarm: Bench):
    with each_uarm.opened() as arm:
        assert arm.open_gripper() == 0.040
        assert arm.close_gripper() == 0.0
        each_uarm.controller.holds_something = True
        assert arm.state().opening_m == 0.010
        assert arm.retreat().opening_m == 0.010


def test_a_pump_is_switched_by_its_own_words(bench: Bench):
    with bench.opened(tool="pump") as arm:
        arm.close_gripper()
    assert "M2231 V1" in bench.controller.commands
    assert "M2232 V1" not in bench.controller.commands


def test_a_gripper_of_its_own_port_takes_the_tools_place(bench: Bench, tmp_path: Path):
    with PtyPort(EmulatedRobotiq(), tmp_path / "gripper") as gripper:
        driver = "robot_agent.robots.robotiq_2f85:Robotiq2F85"
        with bench.opened(gripper={"driver": driver, "port": str(gripper.path)}) as arm:
            assert arm.gripper.max_opening_m == 0.085
            assert arm.open_gripper() == pytest.approx(0.085)
            assert arm.close_gripper() == pytest.approx(0.0)


def test_marlin_homes_and_is_asked_in_its_own_words(marlin: Bench):
    with marlin.opened() as arm:
        ended = arm.move_to(ABOVE_BIN).pose
        assert ended.as_array()[:3] == pytest.approx(ABOVE_BIN.as_array()[:3], abs=1e-5)
        arm.stop()
        arm.move_to(ABOVE_BIN)
    assert marlin.controller.stops == 1
    assert "M84 S0" in marlin.controller.commands, "or it lets go of an arm that waits"
    assert marlin.controller.commands.count("G28") == 1


@pytest.mark.parametrize("emergency_parser", [False, None])
def test_a_marlin_that_would_read_a_stop_only_after_the_motion_is_refused(
    emergency_parser: bool | None, tmp_path: Path
):
    bench = Bench(tmp_path, "marlin")
    bench.controller.emergency_parser = emergency_parser
    gripper = {"driver": "robot_agent.robots.robotiq_2f85:Robotiq2F85", "port": "/dev/none"}
    with (
        bench.line,
        pytest.raises(ConfigurationError, match="stops only after a motion has ended"),
    ):
        bench.open(gripper=gripper)


def test_marlin_without_a_gripper_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="name a gripper"):
        GcodeArm.open({"port": "/dev/x", "firmware": "marlin"}, site(tmp_path))


def test_a_pose_that_is_no_number_never_reaches_the_controller(bench: Bench):
    with bench.opened() as arm, pytest.raises(RobotError, match=r"arm-1: .*not finite"):
        arm.move_to(GripperPose(x_m=math.nan, y_m=0.0, z_m=0.1, yaw_rad=0.0))
    assert bench.controller.feeds_mm_min == []


def test_two_agents_on_one_arm_are_refused(bench: Bench):
    with bench.opened(), pytest.raises(ConfigurationError, match=r"arm-1: .*another agent"):
        bench.open()


def test_another_firmware_than_configured_is_refused(tmp_path: Path):
    bench = Bench(tmp_path, "uarm-3")
    with bench.line, pytest.raises(ConfigurationError, match="set it to 'uarm-3'"):
        bench.open(firmware="uarm-4")


def test_the_doctor_is_told_firmware_and_supply(bench: Bench):
    with bench.opened() as arm:
        assert [(found.subject, found.verdict) for found in arm.checks()] == [
            ("controller", "ok"), ("motor supply", "ok"),
        ]  # fmt: skip
        bench.controller.has_power = False
        assert [found.verdict for found in arm.checks()] == ["ok", "fail"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prot": "x"}, "did you mean 'port'"),
        ({"port": "/dev/x", "firmware": "uarm-2"}, "firmware"),
        ({"port": "/dev/x", "reach_m": [0.3, 0.1]}, "reach_m: 0.3 is not below 0.1"),
        ({"port": "/dev/x", "mount": {"x": 1}}, "did you mean 'x_m'"),
        ({}, "port"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=words):
        GcodeArm.open(options, site(tmp_path))
