import dataclasses
import math

import numpy as np
import pytest

from protocol.episode import GripperPose
from protocol.errors import RobotError
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.kinematics.inverse import InverseKinematics
from tests.robot_agent.kinematics.vertical_poses import (
    ARMS,
    MOUNT,
    position,
    vertical_joints,
    vertical_poses,
)

LIMIT_M = 1e-5


@pytest.fixture(params=ARMS, scope="module")
def arm(request: pytest.FixtureRequest) -> ArmModel:
    return ArmModel.load(request.param, mount=MOUNT)


@pytest.fixture(scope="module")
def inverse(arm: ArmModel) -> InverseKinematics:
    return InverseKinematics(arm)


def assert_solved(arm: ArmModel, pose: GripperPose, joints: np.ndarray) -> None:
    reached = arm.forward(joints)
    assert np.linalg.norm(position(reached) - position(pose)) < LIMIT_M
    assert abs(math.sin(reached.yaw_rad - pose.yaw_rad)) < 1e-5
    assert arm.tilt_rad(joints) < 1e-5
    assert (joints >= arm.lower_rad).all()
    assert (joints <= arm.upper_rad).all()


def random_pose(rng: np.random.Generator) -> GripperPose:
    x, y, z, yaw = rng.uniform([-0.4, -0.4, -0.2, -3.0], [0.5, 0.4, 0.6, 3.0])
    return GripperPose(x_m=x, y_m=y, z_m=z, yaw_rad=yaw)


def test_every_pose_that_the_arm_can_reach_is_solved_from_anywhere(
    arm: ArmModel, inverse: InverseKinematics
):
    rng = np.random.default_rng(8)
    for _, pose in vertical_poses(arm, 300, seed=7):
        solution = inverse.solve(pose, near=vertical_joints(arm, rng))
        assert solution is not None, pose
        assert_solved(arm, pose, solution.joints_rad)


@pytest.mark.slow
def test_twenty_thousand_poses_are_solved_from_anywhere(arm: ArmModel, inverse: InverseKinematics):
    rng = np.random.default_rng(10)
    worst_m = 0.0
    for _, pose in vertical_poses(arm, 20_000, seed=9):
        solution = inverse.solve(pose, near=vertical_joints(arm, rng))
        assert solution is not None, pose
        assert_solved(arm, pose, solution.joints_rad)
        worst_m = max(worst_m, solution.position_error_m)
    print(f"{arm.name}: worst error {worst_m:.1e} m")


def test_from_near_the_solution_is_the_one_at_hand(arm: ArmModel, inverse: InverseKinematics):
    rng = np.random.default_rng(12)
    leaps = 0
    for joints, pose in vertical_poses(arm, 300, seed=11):
        solution = inverse.solve(pose, near=joints + rng.uniform(-0.03, 0.03, 5))
        assert solution is not None
        assert solution.starts == 1
        leaps += bool(np.abs(solution.joints_rad - joints).max() > 0.1)
    # Beside the stretched elbow both of its bends are near.
    assert leaps < 10


def test_half_a_turn_further_is_the_same_pinch_and_the_hand_does_not_turn(
    arm: ArmModel, inverse: InverseKinematics
):
    for joints, pose in vertical_poses(arm, 50, seed=13):
        other = dataclasses.replace(pose, yaw_rad=pose.yaw_rad + math.pi)
        solution = inverse.solve(other, near=joints)
        assert solution is not None
        assert abs(solution.joints_rad[4] - joints[4]) < 0.1


def test_the_same_question_has_the_same_answer(arm: ArmModel):
    rng = np.random.default_rng(14)
    near = vertical_joints(arm, rng)
    poses = [random_pose(rng) for _ in range(20)]
    answers = []
    for _ in range(2):
        inverse = InverseKinematics(arm)
        answers.append(
            [
                (inverse.nearest_reachable(pose, near=near), inverse.solve(pose, near=near))
                for pose in poses
            ]
        )
    for (place, solution), (place_again, solution_again) in zip(*answers, strict=True):
        assert place == place_again
        assert (solution is None) == (solution_again is None)
        if solution is not None and solution_again is not None:
            np.testing.assert_array_equal(solution.joints_rad, solution_again.joints_rad)


def test_beyond_the_arms_length_there_is_no_solution(arm: ArmModel, inverse: InverseKinematics):
    far = GripperPose(x_m=MOUNT.x_m + 0.6, y_m=MOUNT.y_m, z_m=0.1, yaw_rad=0.0)
    assert inverse.solve(far, near=np.zeros(5)) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(inverse: InverseKinematics, bad: float):
    pose = GripperPose(x_m=0.1, y_m=bad, z_m=0.1, yaw_rad=0.0)
    with pytest.raises(RobotError, match="not finite"):
        inverse.nearest_reachable(pose, near=np.zeros(5))
    with pytest.raises(RobotError, match="not finite"):
        inverse.solve(dataclasses.replace(pose, y_m=0.0), near=np.full(5, bad))


def test_a_reachable_pose_is_its_own_nearest(arm: ArmModel, inverse: InverseKinematics):
    for joints, pose in vertical_poses(arm, 30, seed=15):
        assert inverse.nearest_reachable(pose, near=joints) is pose


def test_the_nearest_reachable_pose_can_be_had_and_is_its_own_nearest(
    arm: ArmModel, inverse: InverseKinematics
):
    rng = np.random.default_rng(16)
    clamped = 0
    for _ in range(60):
        pose, near = random_pose(rng), vertical_joints(arm, rng)
        nearest = inverse.nearest_reachable(pose, near=near)
        clamped += nearest is not pose
        elsewhere = vertical_joints(arm, rng)
        solution = inverse.solve(nearest, near=elsewhere)
        assert solution is not None
        assert_solved(arm, nearest, solution.joints_rad)
        assert nearest.yaw_rad == pose.yaw_rad
        again = inverse.nearest_reachable(nearest, near=elsewhere)
        assert np.linalg.norm(position(again) - position(nearest)) < 1e-6
    assert clamped > 20


def test_no_reachable_place_is_nearer_than_the_nearest(arm: ArmModel, inverse: InverseKinematics):
    rng = np.random.default_rng(18)
    at_yaw = {}
    for yaw in (-0.6, 0.9):
        turned = []
        for joints, pose in vertical_poses(arm, 6_000, seed=17):
            roll = joints[4] + (pose.yaw_rad - yaw) * np.sign(roll_sense(arm))
            for half_turn in (0.0, math.pi):
                either = math.remainder(roll + half_turn, 2 * math.pi)
                if arm.lower_rad[4] <= either <= arm.upper_rad[4]:
                    turned.append(arm.transform([*joints[:4], either])[:3, 3])
        at_yaw[yaw] = np.array(turned)
    for yaw, places in at_yaw.items():
        for _ in range(8):
            pose = dataclasses.replace(random_pose(rng), yaw_rad=yaw)
            nearest = inverse.nearest_reachable(pose, near=vertical_joints(arm, rng))
            least_m = np.linalg.norm(places - position(pose), axis=1).min()
            assert np.linalg.norm(position(nearest) - position(pose)) < least_m + 1e-4


def roll_sense(arm: ArmModel) -> float:
    """Return how the yaw grows with the last joint while the tool points down."""
    yaws = [arm.forward(np.array([0, 0, 0, math.pi / 2, roll])).yaw_rad for roll in (0.0, 0.1)]
    return math.sin(yaws[0] - yaws[1])


def test_a_hand_that_is_led_along_the_edge_of_its_reach_leaps_only_where_it_turns_half_round(
    arm: ArmModel, inverse: InverseKinematics
):
    joints = np.array([0.0, 0.0, 0.0, math.pi / 2, 0.0])
    before, yaw_before_rad, turns = None, 0.0, 0
    for x_m in np.linspace(0.0, 0.5, 101):
        wished = GripperPose(x_m=x_m, y_m=0.1, z_m=0.15, yaw_rad=0.2)
        nearest = inverse.nearest_reachable(wished, near=joints)
        solution = inverse.solve(nearest, near=joints)
        assert solution is not None
        joints = solution.joints_rad
        here, yaw_rad = position(nearest), arm.forward(joints).yaw_rad
        if before is not None:
            is_turned = math.cos(yaw_rad - yaw_before_rad) < 0
            turns += is_turned
            assert np.linalg.norm(here - before) < (0.045 if is_turned else 0.006)
        before, yaw_before_rad = here, yaw_rad
    assert turns <= 1


@pytest.mark.parametrize("joints", [np.zeros(4), np.zeros(6), np.full(5, np.nan)])
def test_joints_that_are_not_the_arms_are_refused_in_words(
    arm: ArmModel, inverse: InverseKinematics, joints: np.ndarray
):
    pose = GripperPose(x_m=0.0, y_m=0.0, z_m=0.1, yaw_rad=0.0)
    no_push = {"by_m": np.zeros(3), "turned_rad": 0.0}
    for question in (
        lambda: arm.forward(joints),
        lambda: inverse.solve(pose, near=joints),
        lambda: inverse.nearest_reachable(pose, near=joints),
        lambda: inverse.displaced(joints, **no_push),
    ):
        with pytest.raises(RobotError, match=f"arm {arm.name}"):
            question()
    with pytest.raises(RobotError, match="pushed by"):
        inverse.displaced(np.zeros(5), by_m=np.full(3, np.nan), turned_rad=0.0)
