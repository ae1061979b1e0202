"""JointArm over shafts in simulated time: the real planner, drive and watch."""

import math
import re
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, RobotError, SafetyFault
from robot_agent.arms.arm_options import Parking
from robot_agent.arms.joint_drive import CYCLE_S, JointDrive
from robot_agent.arms.joint_path import path_through
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.arms.servo_watch import ServoWatch
from robot_agent.config import SafetyConfig
from robot_agent.robots.check_result import Verdict
from tests.robot_agent.arms.arm_on_shafts import (
    ABOVE_BIN,
    FOLDED_RAD,
    LOW,
    PARKED_M,
    ArmOnShafts,
    arm_on_shafts,
)
from tests.robot_agent.robots.emulated_arms import calibration_of, emulated_so101


@pytest.fixture
def rig(tmp_path: Path) -> ArmOnShafts:
    return arm_on_shafts(tmp_path)


def tips_m(rig: ArmOnShafts) -> np.ndarray:
    """float64[M, 3]: where every set point so far puts the finger tips."""
    return np.stack([rig.model.transform(one)[:3, 3] for one in rig.commanded_rad()])


def apart_m(one: GripperPose, other: GripperPose) -> float:
    return float(np.linalg.norm(one.as_array()[:3] - other.as_array()[:3]))


def test_the_finger_tips_go_straight(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    rig.joints.commands.clear()
    rig.arm.move_to(replace(LOW, x_m=0.0, y_m=0.05, yaw_rad=-0.7))
    tips = tips_m(rig)
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
    steps = np.linalg.norm(np.diff(tips_m(rig), axis=0), axis=1)
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
    tips = tips_m(again)
    below = tips[tips[:, 2] < 0.115]
    assert np.linalg.norm(below[:, :2] - below[0, :2], axis=1).max() < 0.002


def test_retreating_rises_before_it_goes_aside(rig: ArmOnShafts):
    rig.arm.move_to(LOW)
    rig.joints.commands.clear()
    rig.arm.retreat()
    tips = tips_m(rig)
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
    assert tips_m(rig)[:, 2].min() > touching.z_m - 0.001


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


def test_a_motor_that_is_too_hot_ends_all_motion_until_a_person_has_seen_to_it(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    rig.clock.in_s(0.3, lambda: rig.joints.temperatures_c.fill(70.0))
    with pytest.raises(SafetyFault, match="70 degrees"):
        rig.arm.move_to(LOW)
    rig.arm.stop()
    rig.clock.sleep(0.5)
    rig.joints.temperatures_c.fill(30.0)
    before = rig.joints.positions_rad
    for motion in (rig.arm.retreat, rig.arm.open_gripper, lambda: rig.arm.move_to(ABOVE_BIN)):
        with pytest.raises(SafetyFault, match=r"does not move since a fault.*70 degrees"):
            motion()
    rig.arm.close()
    rig.clock.sleep(1.0)
    np.testing.assert_allclose(rig.joints.positions_rad, before, atol=1e-3)
    assert rig.joints.torques == pytest.approx([0.4] * 5)


def test_silent_motors_abort_the_motion_and_the_next_one_works(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)

    def go_silent() -> None:
        rig.joints.is_silent = True

    rig.clock.in_s(0.3, go_silent)
    with pytest.raises(RobotError, match="do not answer"):
        rig.arm.move_to(LOW)
    with pytest.raises(RobotError, match="do not answer"):
        rig.arm.stop()
    rig.joints.is_silent = False
    assert apart_m(rig.arm.move_to(LOW).pose, LOW) < 0.001


def test_an_arm_that_somebody_tilted_meanwhile_unfolds_again(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    rig.arm.stop()
    rig.joints.set_torque(False, 1.0)
    rig.mechanics.shafts[4].position_rad -= 0.6
    rig.joints.commands.clear()
    rig.arm.move_to(ABOVE_BIN)
    parked = np.array(PARKED_M)
    assert np.linalg.norm(tips_m(rig) - parked, axis=1).min() < 0.003


def test_stopping_in_a_motion_holds_where_the_arm_is(rig: ArmOnShafts):
    rig.arm.move_to(ABOVE_BIN)
    stopped_at: list[np.ndarray] = []

    def stop() -> None:
        thread = threading.Thread(target=rig.arm.stop)
        thread.start()
        thread.join()
        stopped_at.append(rig.joints.positions_rad)

    rig.clock.in_s(0.4, stop)
    with pytest.raises(RobotError, match="robot-7: stopped in the middle"):
        rig.arm.move_to(LOW)
    rig.clock.sleep(1.0)
    np.testing.assert_allclose(rig.joints.positions_rad, stopped_at[0], atol=0.02)
    assert rig.joints.torques == pytest.approx([0.4] * 5)


def test_a_motion_that_was_asked_for_just_before_an_emergency_stop_is_not_begun(rig: ArmOnShafts):
    rig.arm.move_to(LOW)
    rig.stop.is_pulled = True
    rig.arm.stop()
    rig.joints.commands.clear()
    with pytest.raises(SafetyFault, match="robot-7 was stopped"):
        rig.arm.move_to(ABOVE_BIN)
    assert rig.joints.commands == []
    assert rig.joints.torques == pytest.approx([0.4] * 5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_nobody_foresaw_in_a_motion_ends_in_an_arm_that_only_holds(
    rig: ArmOnShafts, error: type[BaseException]
):
    def strike() -> None:
        raise error

    rig.arm.move_to(ABOVE_BIN)
    rig.clock.in_s(0.3, strike)
    with pytest.raises(error):
        rig.arm.move_to(LOW)
    before = rig.joints.positions_rad
    rig.arm.close()
    rig.clock.sleep(2.0)
    # It brakes, and stays there: the parking pose is half a turn away.
    np.testing.assert_allclose(rig.joints.positions_rad, before, atol=0.05)
    assert rig.joints.torques == pytest.approx([0.4] * 5)


def test_a_stopped_arm_holds_when_it_is_closed_and_does_not_park(rig: ArmOnShafts):
    rig.arm.move_to(LOW)
    rig.arm.stop()
    before = rig.joints.positions_rad
    rig.arm.close()
    rig.clock.sleep(1.0)
    np.testing.assert_allclose(rig.joints.positions_rad, before, atol=1e-3)


def test_closing_parks_gently_and_goes_on_holding(rig: ArmOnShafts):
    rig.arm.move_to(LOW)
    rig.arm.close()
    hand = rig.model.forward(rig.joints_rad)
    assert (hand.x_m, hand.y_m) == pytest.approx(PARKED_M[:2], abs=0.002)
    assert rig.joints.torques == pytest.approx([0.4] * 5)


def test_closing_without_a_cable_says_that_the_arm_may_not_hold_and_lets_go_of_it(
    rig: ArmOnShafts,
):
    rig.arm.move_to(LOW)
    rig.joints.is_silent = rig.jaw.is_silent = True
    with pytest.raises(RobotError, match="do not answer"):
        rig.arm.close()
    rig.arm.close()


def test_an_object_stays_gripped_when_the_arm_is_stopped_and_carried_on(rig: ArmOnShafts):
    rig.mechanics.blocks[6] = (0.5, 1.8)
    rig.arm.move_to(LOW)
    held_m = rig.arm.close_gripper()
    assert held_m == pytest.approx(0.032, abs=0.001)
    for go_on in (rig.arm.stop, rig.arm.retreat, rig.arm.close):
        go_on()
        rig.clock.sleep(0.5)
        jaw = rig.mechanics.shafts[6]
        assert jaw.load == pytest.approx(-0.5, abs=0.01)
        assert jaw.position_rad == pytest.approx(0.5, abs=0.01)


def test_a_bin_is_stirred_by_the_function_that_the_options_name(tmp_path: Path):
    rig = arm_on_shafts(tmp_path, shuffle=f"{__name__}:stir")
    assert rig.arm.prepare_attempt() is True
    hand = rig.model.forward(rig.joints_rad)
    assert hand.z_m == pytest.approx(LOW.z_m, abs=0.002)


def stir(robot: object) -> bool:
    robot.move_to(LOW)  # type: ignore[attr-defined]
    return True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shuffle": "nowhere:stir"}, "shuffle 'nowhere:stir'"),
        ({"shuffle": "math:stir"}, "shuffle 'math:stir'"),
        ({"gripper": {"port": "/dev/null"}}, "gripper.driver: expected"),
        ({"gripper": {"driver": "math:Robotiq"}}, "gripper.driver 'math:Robotiq'"),
        ({"model": "/nowhere/arm.urdf"}, "no such model"),
    ],
)
def test_what_cannot_be_loaded_is_refused(options: dict[str, object], words: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=words):
        arm_on_shafts(tmp_path, **options)


def test_a_parking_pose_out_of_reach_names_one_that_is_not(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="out of the arm's reach; the nearest"):
        arm_on_shafts(tmp_path, parking=Parking(x_m=0.5, y_m=0.0, z_m=0.3))


def test_every_motor_is_looked_at_and_what_is_wrong_with_it_is_said(rig: ArmOnShafts):
    rig.joints.temperatures_c[1] = 55.0
    found = {one.subject: one for one in rig.arm.checks()}
    assert len(found) == 6
    assert found["servo elbow_flex"].verdict == Verdict.OK
    assert found["servo gripper"].verdict == Verdict.OK
    assert found["servo shoulder_lift"].verdict == Verdict.WARN
    rig.joints.voltage_v = 12.0
    assert [one.verdict for one in rig.arm.checks()][:5] == [Verdict.FAIL] * 5
    rig.joints.is_silent = True
    silent, jaw = rig.arm.checks()
    assert (silent.verdict, jaw.verdict) == (Verdict.FAIL, Verdict.OK)
    assert "do not answer" in silent.finding
    assert silent.remedy


def test_the_hottest_motor_tells_the_temperature(rig: ArmOnShafts):
    rig.jaw.temperatures_c[0] = 41.0
    assert rig.arm.temperature_c() == 41.0
    rig.joints.temperatures_c[3] = 43.0
    assert rig.arm.temperature_c() == 43.0


def test_the_calibration_of_another_arm_is_refused(tmp_path: Path):
    with emulated_so101(tmp_path) as emulated:
        calibration_of("wx200").write(tmp_path)
        with pytest.raises(ConfigurationError, match="of the arm 'wx200', this is a 'so101'"):
            emulated.open()
