"""JointArm over shafts in simulated time: the real planner, drive and watch."""

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from protocol.errors import RobotError
from robot_agent.arms.joint_drive import CYCLE_S, JointDrive
from robot_agent.arms.joint_path import path_through
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.arms.servo_watch import ServoWatch
from robot_agent.config import SafetyConfig
from tests.robot_agent.arms.arm_on_shafts import (
    ABOVE_BIN,
    FOLDED_RAD,
    LOW,
    PARKED_M,
    ArmOnShafts,
    apart_m,
    arm_on_shafts,
)
from tests.robot_agent.robots.emulated_arms import calibration_of


def test_the_finger_tips_go_straight(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    rig.joints.commands.clear()
    rig.arm.move_to(replace(LOW, x_m=0.0, y_m=0.05, yaw_rad=-0.7))
    tips = rig.tips_m()
    way = tips[-1] - tips[0]
    off = np.cross(tips - tips[0], way / np.linalg.norm(way))
    assert np.linalg.norm(off, axis=1).max() < 0.001
    tilts = [rig.model.tilt_rad(one) for one in rig.commanded_rad()]
    assert max(tilts) < math.radians(0.5)


def test_no_set_point_outruns_its_limits(tmp_path: Path):
    safety = SafetyConfig(max_speed_m_s=0.15, max_joint_speed_rad_s=0.8)
    rig = arm_on_shafts(tmp_path, safety=safety)
    rig.arm.retreat()
    rig.joints.commands.clear()
    rig.arm.move_to(LOW)
    rig.arm.move_to(replace(ABOVE_BIN, yaw_rad=-1.1))
    rig.arm.retreat()
    assert np.abs(np.diff(rig.commanded_rad(), axis=0)).max() / CYCLE_S < 0.8 * 1.03
    steps = np.linalg.norm(np.diff(rig.tips_m(), axis=0), axis=1)
    assert 0.9 * 0.15 < steps.max() / CYCLE_S < 0.15 * 1.03


def test_a_cycle_that_comes_late_delays_the_motion_and_never_makes_it_leap(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    rig.joints.commands.clear()
    rig.clock.in_s(0.4, lambda: rig.clock.sleep(3.0))
    assert apart_m(rig.arm.move_to(LOW).pose, LOW) < 0.001
    assert np.abs(np.diff(rig.commanded_rad(), axis=0)).max() < 2.05 * 2.0 * CYCLE_S


def test_an_arm_that_lay_folded_unfolds_slowly_and_with_little_torque(tmp_path: Path):
    rig = arm_on_shafts(tmp_path, start_rad=FOLDED_RAD)
    torques: list[float] = []
    rig.clock.in_s(2.0, lambda: torques.extend(rig.joints.torques))
    rig.arm.open_gripper()
    assert torques == pytest.approx([0.4] * 5)
    assert rig.joints.torques == pytest.approx([0.7] * 5)
    assert np.abs(np.diff(rig.commanded_rad(), axis=0)).max() / CYCLE_S < 0.6
    parked = rig.arm.state().pose
    assert (parked.x_m, parked.y_m, parked.z_m) == pytest.approx(PARKED_M, abs=0.002)


def test_an_arm_that_was_folded_beyond_its_limits_comes_back_without_a_leap(tmp_path: Path):
    beyond = (FOLDED_RAD[0], -2.0, *FOLDED_RAD[2:])
    rig = arm_on_shafts(tmp_path, start_rad=beyond)
    rig.arm.open_gripper()
    assert rig.commanded_rad()[0][1] == pytest.approx(-2.0)
    assert np.abs(np.diff(rig.commanded_rad(), axis=0)).max() / CYCLE_S < 0.6


@pytest.mark.parametrize("off_rad", [0.4, 2 * math.pi, -2 * math.pi])
def test_motors_that_the_calibration_is_not_of_are_not_switched_on(tmp_path: Path, off_rad: float):
    end_rad = calibration_of("so101").joints[4].upper_rad
    rig = arm_on_shafts(tmp_path, start_rad=(*FOLDED_RAD[:4], end_rad + off_rad))
    words = re.escape(f"robot-7: joint wrist_roll reads {end_rad + off_rad:+.2f} rad")
    with pytest.raises(RobotError, match=f"{words}.*robot-agent calibrate"):
        rig.arm.open_gripper()
    assert rig.joints.torques == pytest.approx([0.0] * 5)
    assert rig.joints.commands == []


def test_no_goal_beyond_the_limits_reaches_the_motors(rig: ArmOnShafts):
    calibration = calibration_of("so101")
    drive = JointDrive(
        rig.joints,
        calibration,
        rig.site.safety,
        watch=ServoWatch("robot-7", "abcde", max_temperature_c=60.0, voltage_v=(4.6, 8.4)),
        gate=MotionGate("robot-7"),
        clock=rig.clock,
        beat=rig.stop.beat,
    )
    drive.engage(0.7)
    inside = rig.joints_rad
    outside = inside + np.array([0.0, 2.5, 0.0, 0.0, 0.0])
    drive.follow(path_through(np.stack([inside, outside]), np.zeros((2, 3)), safety=SafetyConfig()))
    lower_rad, upper_rad = calibration.limits_rad.T
    assert (rig.commanded_rad() >= lower_rad - 1e-9).all()
    assert (rig.commanded_rad() <= upper_rad + 1e-9).all()
    assert rig.commanded_rad()[:, 1].max() == pytest.approx(upper_rad[1])


def test_unfolding_ends_at_a_contact_and_asks_to_clear_the_way(tmp_path: Path):
    rig = arm_on_shafts(tmp_path, start_rad=FOLDED_RAD)
    rig.mechanics.blocks[2] = (-10.0, rig.joints.positions_rad[1] + 0.05)
    rig.mechanics.blocks[1] = (0.0, 10.0)
    with pytest.raises(RobotError, match="robot-7: something is in the arm's way"):
        rig.arm.move_to(ABOVE_BIN)
    ended = rig.joints.positions_rad
    rig.clock.sleep(2.0)
    np.testing.assert_allclose(rig.joints.positions_rad, ended, atol=1e-3)
    assert rig.joints.torques == pytest.approx([0.4] * 5)


def test_a_hand_that_stands_in_the_bin_rises_before_it_goes_aside(tmp_path: Path):
    first = arm_on_shafts(tmp_path)
    first.arm.move_to(LOW)
    again = arm_on_shafts(tmp_path, start_rad=tuple(first.joints_rad))
    again.arm.retreat()
    tips = again.tips_m()
    below = tips[tips[:, 2] < 0.115]
    assert np.linalg.norm(below[:, :2] - below[0, :2], axis=1).max() < 0.002


def test_retreating_rises_before_it_goes_aside(rig: ArmOnShafts):
    rig.arm.move_to(LOW)
    rig.joints.commands.clear()
    rig.arm.retreat()
    tips = rig.tips_m()
    below = tips[tips[:, 2] < 0.115]
    assert np.linalg.norm(below[:, :2] - below[0, :2], axis=1).max() < 0.002


def test_what_gravity_takes_is_given_back(rig: ArmOnShafts):
    rig.joints.sag_rad = np.array([0.0, 0.05, -0.03, 0.02, 0.0])
    rig.arm.retreat()
    rig.joints.sag_rad *= 1.2
    assert apart_m(rig.arm.move_to(LOW).pose, LOW) < 0.001
    assert apart_m(rig.arm.move_to(ABOVE_BIN).pose, ABOVE_BIN) < 0.001


def test_a_table_that_is_in_the_way_is_not_pressed_on(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    here = rig.joints.positions_rad
    for index in (1, 2):
        rig.mechanics.blocks[index + 1] = (here[index] - 0.005, here[index] + 0.005)
    ended = rig.arm.move_to(LOW)
    assert ended.pose.z_m > 0.08
    goals = np.array([rig.clock.drives[one].goal_rad for one in rig.joints.ids])
    np.testing.assert_allclose(goals, rig.joints.positions_rad, atol=0.01)


def test_a_motor_at_the_limit_of_its_torque_is_blocked_sooner(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    start = rig.joints.positions_rad[1]
    rig.arm.move_to(LOW)
    wall = rig.joints.positions_rad[1]
    rig.arm.move_to(ABOVE_BIN)
    # Heavy enough that a push of 0.05 rad asks for all the torque there is.
    way = math.copysign(1.0, wall - start)
    rig.mechanics.weights[2] = 0.5 * way
    bounds = sorted((wall - 0.07 * way, wall - 9.0 * way))
    rig.mechanics.blocks[2] = (bounds[0], bounds[1])
    rig.arm.move_to(LOW)
    goal = rig.clock.drives[2].goal_rad
    assert goal == pytest.approx(rig.joints.positions_rad[1], abs=0.01)


def test_a_small_contact_at_the_end_does_not_spoil_the_next_motion(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    there = rig.arm.move_to(LOW)
    wall = rig.joints.positions_rad[1]
    rig.arm.move_to(ABOVE_BIN)
    away = math.copysign(0.03, rig.joints.positions_rad[1] - wall)
    bounds = sorted((wall + away, wall + 100 * away))
    rig.mechanics.blocks[2] = (bounds[0], bounds[1])
    touching = rig.arm.move_to(LOW).pose
    assert apart_m(touching, there.pose) > 0.002
    rig.joints.commands.clear()
    assert apart_m(rig.arm.move_to(ABOVE_BIN).pose, ABOVE_BIN) < 0.001
    # It rises from there without pressing once more.
    assert rig.tips_m()[:, 2].min() > touching.z_m - 0.001


def test_of_the_two_yaws_that_close_alike_the_state_says_the_one_asked_for(rig: ArmOnShafts):
    for yaw_rad in (0.4, 1.5, -1.5, 2.0, -2.0):
        assert rig.arm.move_to(replace(ABOVE_BIN, yaw_rad=yaw_rad)).pose.yaw_rad == pytest.approx(
            yaw_rad, abs=0.01
        )


def test_a_robot_gives_signs_of_life_in_every_motion(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    rig.arm.close_gripper()
    rig.arm.retreat()
    ends = [0.0, *rig.beats, rig.clock.monotonic_s()]
    assert max(after - before for before, after in pairwise(ends)) < 0.2


def test_fingers_that_still_slip_are_waited_for(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    rig.arm.close_gripper()
    jaw = rig.mechanics.shafts[6]
    rig.arm.retreat()
    # From now on the jaw creeps whenever it is looked at.
    rig.clock.drives[6].goal_rad = jaw.position_rad + 0.3
    rig.clock.drives[6].max_speed_rad_s = 0.3
    ended_m = rig.arm.retreat().opening_m
    rig.clock.sleep(1.0)
    assert ended_m == pytest.approx(rig.arm.state().opening_m, abs=5e-4)
    assert ended_m > 0.02
