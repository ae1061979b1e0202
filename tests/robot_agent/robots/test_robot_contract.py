"""What every robot driver must do. A further driver joins by one line in DRIVERS."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError
from robot_agent.robots.base import InstrumentedRobot, Robot
from robot_agent.robots.simulated import SimulatedRobot

DRIVERS: dict[str, Callable[[], Robot]] = {
    "simulated": lambda: SimulatedRobot.open({"seed": 4}),
}
CLASSES: dict[str, type[Robot]] = {"simulated": SimulatedRobot}

ABOVE_BIN = GripperPose(x_m=0.04, y_m=-0.03, z_m=0.12, yaw_rad=0.6)


@pytest.fixture(params=DRIVERS, scope="module")
def robot(request: pytest.FixtureRequest) -> Iterator[Robot]:
    robot = DRIVERS[request.param]()
    robot.prepare_attempt()
    yield robot
    robot.close()


def test_the_hand_reaches_a_free_pose_within_two_millimetres(robot: Robot):
    reached = robot.move_to(ABOVE_BIN).pose
    np.testing.assert_allclose(reached.as_array()[:3], ABOVE_BIN.as_array()[:3], atol=0.002)
    assert abs(math.sin(reached.yaw_rad - ABOVE_BIN.yaw_rad)) < 0.03


def test_the_state_is_where_the_last_motion_ended(robot: Robot):
    ended = robot.move_to(ABOVE_BIN)
    state = robot.state()
    np.testing.assert_allclose(state.pose.as_array(), ended.pose.as_array(), atol=0.002)
    assert state.measured_at_ns >= ended.measured_at_ns


def test_a_half_turn_further_is_reached_in_words_of_the_same_direction(robot: Robot):
    robot.move_to(ABOVE_BIN)
    wanted = GripperPose(x_m=0.04, y_m=-0.03, z_m=0.12, yaw_rad=2.9)
    robot.move_to(wanted)
    assert abs(math.sin(robot.state().pose.yaw_rad - 2.9)) < 0.03


def test_the_open_gripper_reads_its_data_sheet_and_the_closed_one_nothing(robot: Robot):
    robot.move_to(ABOVE_BIN)
    assert robot.open_gripper() == pytest.approx(robot.gripper.max_opening_m, abs=0.002)
    assert robot.close_gripper() < 0.002
    assert robot.state().opening_m < 0.002
    assert robot.open_gripper() == pytest.approx(robot.gripper.max_opening_m, abs=0.002)


def test_retreating_keeps_the_gripper_as_it_is(robot: Robot):
    robot.move_to(ABOVE_BIN)
    robot.close_gripper()
    assert robot.retreat().opening_m < 0.002
    robot.open_gripper()
    assert robot.retreat().opening_m > 0.07


def test_retreating_ends_higher_than_any_attempt_works(robot: Robot):
    robot.move_to(ABOVE_BIN)
    assert robot.retreat().pose.z_m > ABOVE_BIN.z_m


def test_stopping_holds_still(robot: Robot):
    before = robot.move_to(ABOVE_BIN).pose.as_array()
    robot.stop()
    np.testing.assert_allclose(robot.state().pose.as_array(), before, atol=0.002)


def test_preparing_twice_without_an_attempt_between_leaves_the_bin_as_it_is(robot: Robot):
    robot.retreat()
    robot.prepare_attempt()
    assert robot.prepare_attempt() is False


def test_the_data_sheet_puts_palm_and_fingers_above_the_origin(robot: Robot):
    boxes = robot.gripper.boxes(robot.gripper.max_opening_m)
    assert boxes.shape == (len(robot.gripper.body_boxes) + 2, 2, 3)
    assert (boxes[:, 0] < boxes[:, 1]).all()
    assert boxes[:, 0, 2].min() == pytest.approx(0.0, abs=0.002)


def test_an_instrument_that_sees_an_empty_gripper_does_not_call_it_a_success(robot: Robot):
    if not isinstance(robot, InstrumentedRobot):
        pytest.skip("no instrument")
    robot.open_gripper()
    robot.move_to(ABOVE_BIN)
    robot.close_gripper()
    assert robot.reference_outcome().success is False


@pytest.mark.parametrize("driver", CLASSES)
def test_an_unknown_option_is_refused_by_name(driver: str):
    with pytest.raises(ConfigurationError, match="colour_of_the_sky"):
        CLASSES[driver].open({"colour_of_the_sky": 1})


@pytest.mark.parametrize("driver", DRIVERS)
def test_closing_twice_is_allowed(driver: str):
    robot = DRIVERS[driver]()
    robot.close()
    robot.close()
