"""What ends a JointArm's motion, over shafts in simulated time: stops, faults, closing."""

import threading

import numpy as np
import pytest

from protocol.errors import RobotError, SafetyFault
from robot_agent.robots.check_result import Verdict
from tests.robot_agent.arms.arm_on_shafts import (
    ABOVE_BIN,
    LOW,
    PARKED_M,
    ArmOnShafts,
    apart_m,
)


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
    assert np.linalg.norm(rig.tips_m() - parked, axis=1).min() < 0.003


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


def test_every_motor_is_looked_at_and_what_is_wrong_with_it_is_said(rig: ArmOnShafts):
    rig.joints.temperatures_c[1] = 55.0
    found = {one.subject: one for one in rig.arm.checks()}
    assert len(found) == 7
    assert found["servo bus"].verdict == Verdict.OK
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
