"""What every robot driver must do. A further driver joins by one line in RIGS."""

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from protocol.episode import GripperPose
from protocol.errors import ConfigurationError, RobotError
from robot_agent.robots.base import InstrumentedRobot, ReachLimitedRobot, Robot
from tests.robot_agent.robots.rigs import JOINTED, RIGS, WIRED, Cable, JointCable, Rig

NOT_IN_THE_BIN = GripperPose(x_m=1.5, y_m=0.1, z_m=0.1, yaw_rad=0.2)


@pytest.fixture(params=RIGS, scope="module")
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with RIGS[request.param](tmp_path_factory.mktemp("rig")) as rig:
        yield rig


@pytest.fixture(scope="module")
def robot(rig: Rig) -> Iterator[Robot]:
    """One that all tests share which leave it as they found it."""
    robot = rig.open()
    robot.prepare_attempt()
    yield robot
    robot.close()


@pytest.fixture(params=WIRED)
def wired(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A rig of the test's own, with a cable."""
    with RIGS[request.param](tmp_path) as rig:
        yield rig


@pytest.fixture
def cable(wired: Rig) -> Cable:
    assert wired.cable is not None
    return wired.cable


@pytest.fixture(params=JOINTED)
def jointed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A jointed arm of the test's own, in simulated time."""
    with RIGS[request.param](tmp_path) as rig:
        yield rig


@pytest.fixture
def joint_cable(jointed: Rig) -> JointCable:
    assert isinstance(jointed.cable, JointCable)
    return jointed.cable


def test_the_hand_reaches_a_free_pose_as_well_as_its_driver_promises(rig: Rig, robot: Robot):
    reached = robot.move_to(rig.above_bin).pose
    assert _apart_m(reached, rig.above_bin) < rig.tolerance_m
    assert abs(math.sin(reached.yaw_rad - rig.above_bin.yaw_rad)) < 0.03


def test_the_state_is_where_the_last_motion_ended(rig: Rig, robot: Robot):
    ended = robot.move_to(rig.above_bin)
    state = robot.state()
    np.testing.assert_allclose(state.pose.as_array(), ended.pose.as_array(), atol=0.002)
    assert state.measured_at_ns >= ended.measured_at_ns
    assert np.isfinite([*state.pose.as_array(), state.opening_m]).all()


def test_a_half_turn_further_is_reached_in_words_of_the_same_direction(rig: Rig, robot: Robot):
    robot.move_to(rig.above_bin)
    here = rig.above_bin
    robot.move_to(GripperPose(x_m=here.x_m, y_m=here.y_m, z_m=here.z_m, yaw_rad=2.9))
    assert abs(math.sin(robot.state().pose.yaw_rad - 2.9)) < 0.03


def test_the_open_gripper_reads_its_data_sheet_and_the_closed_one_nothing(rig: Rig, robot: Robot):
    robot.move_to(rig.above_bin)
    whole_m, off_m = robot.gripper.max_opening_m, rig.opening_tolerance_m
    assert robot.open_gripper() == pytest.approx(whole_m, abs=off_m)
    assert abs(robot.close_gripper()) < off_m
    assert abs(robot.state().opening_m) < off_m
    assert robot.open_gripper() == pytest.approx(whole_m, abs=off_m)


def test_retreating_keeps_the_gripper_as_it_is(rig: Rig, robot: Robot):
    robot.move_to(rig.above_bin)
    robot.close_gripper()
    assert abs(robot.retreat().opening_m) < rig.opening_tolerance_m
    robot.open_gripper()
    assert robot.retreat().opening_m > 0.9 * robot.gripper.max_opening_m


def test_retreating_ends_higher_than_any_attempt_works(rig: Rig, robot: Robot):
    robot.move_to(rig.above_bin)
    assert robot.retreat().pose.z_m > rig.above_bin.z_m


def test_stopping_holds_still_and_the_next_motion_is_made(rig: Rig, robot: Robot):
    before = robot.move_to(rig.above_bin).pose.as_array()
    robot.stop()
    np.testing.assert_allclose(robot.state().pose.as_array(), before, atol=0.002)
    robot.retreat()
    assert _apart_m(robot.move_to(rig.above_bin).pose, rig.above_bin) < rig.tolerance_m


def test_a_robot_of_limited_reach_names_a_pose_near_by_that_it_then_reaches(rig: Rig, robot: Robot):
    if not isinstance(robot, ReachLimitedRobot):
        pytest.skip("it is everywhere in its workspace")
    assert robot.nearest_reachable(rig.above_bin) == rig.above_bin
    nearest = robot.nearest_reachable(NOT_IN_THE_BIN)
    if nearest == NOT_IN_THE_BIN:
        pytest.skip("nothing limits it")
    assert nearest.x_m < NOT_IN_THE_BIN.x_m
    assert _apart_m(robot.move_to(NOT_IN_THE_BIN).pose, nearest) < 5 * rig.tolerance_m


def test_preparing_twice_without_an_attempt_between_leaves_the_bin_as_it_is(robot: Robot):
    robot.retreat()
    robot.prepare_attempt()
    assert robot.prepare_attempt() is False


def test_the_data_sheet_puts_palm_and_fingers_above_the_origin(robot: Robot):
    boxes = robot.gripper.boxes(robot.gripper.max_opening_m)
    assert boxes.shape == (len(robot.gripper.body_boxes) + 2, 2, 3)
    assert (boxes[:, 0] < boxes[:, 1]).all()
    assert boxes[:, 0, 2].min() == pytest.approx(0.0, abs=0.002)


def test_an_instrument_that_sees_an_empty_gripper_does_not_call_it_a_success(
    rig: Rig, robot: Robot
):
    if not isinstance(robot, InstrumentedRobot):
        pytest.skip("no instrument")
    robot.open_gripper()
    robot.move_to(rig.above_bin)
    robot.close_gripper()
    assert robot.reference_outcome().success is False


def test_an_unknown_option_is_refused_by_name(rig: Rig):
    with pytest.raises(ConfigurationError, match="colour_of_the_sky"):
        rig.open(colour_of_the_sky=1)


@pytest.mark.parametrize("name", RIGS)
def test_closing_twice_is_allowed(name: str, tmp_path: Path):
    with RIGS[name](tmp_path) as rig:
        robot = rig.open()
        robot.close()
        robot.close()


def test_a_blocked_motion_ends_and_says_where_the_hand_is(jointed: Rig, joint_cable: JointCable):
    robot = jointed.open()
    started = robot.retreat().pose
    joint_cable.in_a_motion(joint_cable.obstruct)
    ended = robot.move_to(jointed.above_bin)
    assert _apart_m(ended.pose, jointed.above_bin) > 0.02
    assert _apart_m(ended.pose, started) > 0.0005
    assert _apart_m(robot.state().pose, ended.pose) < 0.001


def test_a_stop_of_another_thread_ends_a_motion_in_its_middle(wired: Rig, cable: Cable):
    robot = wired.open()
    robot.retreat()
    cable.in_a_motion(lambda: _in_another_thread(robot.stop))
    with pytest.raises(RobotError, match="stopped"):
        robot.move_to(wired.above_bin)
    assert cable.is_held()
    assert _apart_m(robot.state().pose, wired.above_bin) > 0.02
    assert _apart_m(robot.move_to(wired.above_bin).pose, wired.above_bin) < wired.tolerance_m


def test_a_second_agent_on_the_port_is_refused(wired: Rig):
    robot = wired.open()
    with pytest.raises(ConfigurationError, match="another"):
        wired.open()
    robot.close()
    wired.open().close()


def test_a_robot_without_its_cable_says_so_and_goes_on_when_it_is_back(wired: Rig, cable: Cable):
    robot = wired.open()
    robot.retreat()
    cable.in_a_motion(cable.unplug)
    with pytest.raises(RobotError, match="port is gone"):
        robot.move_to(wired.above_bin)
    with pytest.raises(RobotError):
        robot.retreat()
    cable.plug()
    assert _apart_m(_once_it_answers(robot, wired.above_bin), wired.above_bin) < wired.tolerance_m


def test_nothing_moves_when_a_robot_is_opened_and_closed(wired: Rig, cable: Cable):
    robot = wired.open()
    before = robot.state().pose
    robot.close()
    robot = wired.open()
    assert robot.state().pose == before
    assert not cable.is_held()


def test_a_closed_robot_holds_still(wired: Rig, cable: Cable):
    robot = wired.open()
    robot.move_to(wired.above_bin)
    robot.close()
    assert cable.is_held()


def test_an_arm_whose_agent_died_in_a_motion_is_held_by_another_process(
    jointed: Rig, joint_cable: JointCable
):
    robot = jointed.open()
    robot.retreat()
    joint_cable.in_a_motion(_die)
    with pytest.raises(_Killed):
        robot.move_to(jointed.above_bin)
    assert not joint_cable.is_held()
    # The kernel closes the ports of the dead.
    robot.servos.close()
    joint_cable.hold()
    assert joint_cable.is_held()


def test_a_robot_that_is_not_calibrated_says_what_to_do_and_does_not_move(
    jointed: Rig, joint_cable: JointCable
):
    joint_cable.uncalibrate()
    robot = jointed.open()
    for motion in (robot.retreat, robot.open_gripper, lambda: robot.move_to(jointed.above_bin)):
        with pytest.raises(ConfigurationError, match="robot-agent calibrate"):
            motion()
    robot.close()
    assert not joint_cable.is_held()


class _Killed(BaseException):
    """What kill -9 does to a program, as far as one can write it down."""


def _die() -> None:
    raise _Killed


def _in_another_thread(call: object) -> None:
    thread = threading.Thread(target=call)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def _once_it_answers(robot: Robot, pose: GripperPose) -> GripperPose:
    """Move there as soon as the port is looked for again."""
    deadline = threading.Event()
    timer = threading.Timer(10.0, deadline.set)
    timer.start()
    try:
        while True:
            try:
                return robot.move_to(pose).pose
            except RobotError:
                if deadline.wait(0.05):
                    raise
    finally:
        timer.cancel()


def _apart_m(one: GripperPose, other: GripperPose) -> float:
    return float(np.linalg.norm(one.as_array()[:3] - other.as_array()[:3]))
