"""A simulated robot with an arm: its joints' limits, their lag, and what they cannot reach."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.episode import GripperPose, Label
from protocol.errors import ConfigurationError
from robot_agent.arms.arm_places import ARM_PLACES
from robot_agent.config import SafetyConfig
from robot_agent.kinematics.arm_model import ArmModel, Mount
from robot_agent.kinematics.inverse import InverseKinematics
from robot_agent.robots.base import RobotSite
from robot_agent.robots.simulated import SimulatedRobot
from robot_agent.robots.simulated.scene import TIMESTEP_S, WORKSPACE_M
from robot_agent.robots.simulated.servo_arm import CYCLE_S, LaggingServos
from tests.robot_agent.attempts.made_attempts import attempt
from tests.robot_agent.simulated_agent import make_site

FAR_AWAY = {
    "mount": {"y_m": 0.27, "z_m": 0.12, "yaw_rad": -math.pi / 2},
    "parking": {"x_m": 0.2, "y_m": 0.28, "z_m": 0.2},
}
"""So far that the bin's other side is out of reach."""
ABOVE = GripperPose(x_m=0.03, y_m=-0.02, z_m=0.12, yaw_rad=0.4)


def robot_with_arm(**options: Any) -> SimulatedRobot:
    robot = SimulatedRobot.open({"seed": 4, "arm": "so101", **options})
    robot.prepare_attempt()
    return robot


def model_of(arm: str) -> ArmModel:
    return ArmModel.load(arm, mount=ARM_PLACES[arm].mount)


def xyz(pose: GripperPose) -> np.ndarray:
    return np.array([pose.x_m, pose.y_m, pose.z_m])


@pytest.mark.parametrize("arm", ARM_PLACES)
def test_from_its_place_an_arm_reaches_the_whole_workspace(arm: str):
    inverse = InverseKinematics(model_of(arm))
    near = np.array([0.0, 0.0, 0.0, math.pi / 2, 0.0])
    ends = [np.linspace(low, high, 3) for low, high in WORKSPACE_M]
    for x, y, z, yaw in itertools.product(*ends, (-1.4, 0.0, 0.8)):
        pose = GripperPose(x_m=float(x), y_m=float(y), z_m=float(z), yaw_rad=yaw)
        solution = inverse.solve(pose, near=near)
        assert solution is not None, pose
        near = solution.joints_rad


def test_a_joint_that_turns_evenly_is_behind_its_goal_by_the_lag():
    model = model_of("so101")
    servos = LaggingServos(model, np.zeros(5), lag_s=0.08)
    goals = np.zeros(5)
    for _ in range(60):
        goals = goals + 1.0 * CYCLE_S
        joints = servos.turn_towards(goals)
    np.testing.assert_allclose(goals - joints, 0.08, atol=0.003)


def test_joints_keep_their_limits_of_angle_speed_and_acceleration_whatever_they_are_told():
    model = model_of("wx200")
    servos = LaggingServos(model, np.zeros(5), lag_s=0.05)
    rng = np.random.default_rng(2)
    before, speeds = np.zeros(5), [np.zeros(5)]
    for _ in range(100):
        goals = rng.uniform(-9.0, 9.0, 5)
        for _ in range(8):
            joints = servos.turn_towards(goals)
            assert (joints >= model.lower_rad - 1e-9).all()
            assert (joints <= model.upper_rad + 1e-9).all()
            speeds.append((joints - before) / CYCLE_S)
            before = joints
    assert (np.abs(speeds).max(axis=0) <= model.max_speeds_rad_s + 1e-9).all()
    assert np.abs(np.diff(speeds, axis=0)).max() <= 60.0 * CYCLE_S + 1e-9


def test_what_is_reached_differs_from_what_was_asked_by_what_servos_cannot_do():
    robot = robot_with_arm()
    reached = xyz(robot.move_to(ABOVE).pose)
    off_m = np.linalg.norm(reached - xyz(ABOVE))
    assert 1e-5 < off_m < 1e-3
    hand = robot.scene.hand_position()[:3]
    assert np.linalg.norm(hand - reached) < 5e-4


def test_a_motion_takes_as_long_as_the_limits_of_its_site_ask_for(tmp_path: Path):
    durations_s = []
    for speed_m_s in (0.25, 0.1):
        safety = SafetyConfig(max_speed_m_s=speed_m_s)
        site = RobotSite(name="robot", state_folder=tmp_path, safety=safety)
        robot = SimulatedRobot.open({"seed": 4, "arm": "so101"}, site)
        start = robot.move_to(ABOVE).pose
        end = GripperPose(x_m=-0.08, y_m=0.05, z_m=0.10, yaw_rad=0.4)
        before_s = robot.scene.data.time
        robot.move_to(end)
        durations_s.append(robot.scene.data.time - before_s)
        assert durations_s[-1] > np.linalg.norm(xyz(end) - xyz(start)) / speed_m_s
    assert durations_s[1] > 2 * durations_s[0]


def test_the_same_seed_moves_the_arm_alike():
    histories = []
    for _ in range(2):
        robot = robot_with_arm()
        robot.move_to(ABOVE)
        robot.close_gripper()
        robot.retreat()
        histories.append(robot.scene.data.qpos.copy())
    np.testing.assert_array_equal(*histories)


def test_a_hand_that_meets_the_floor_stays_there_and_its_joints_say_so():
    robot = robot_with_arm(object_count=(1, 1))
    robot.close_gripper()
    robot.move_to(GripperPose(x_m=-0.09, y_m=0.06, z_m=0.05, yaw_rad=0.0))
    blocked = robot.move_to(GripperPose(x_m=-0.09, y_m=0.06, z_m=-0.02, yaw_rad=0.0))
    assert blocked.pose.z_m > -0.005
    assert abs(blocked.pose.z_m - robot.scene.hand_position()[2]) < 5e-4


def test_a_pose_out_of_reach_is_clamped_and_recorded_as_commanded(tmp_path: Path):
    site = make_site(tmp_path, {"seed": 2, "arm": "so101", **FAR_AWAY})
    inverse = InverseKinematics(ArmModel.load("so101", mount=Mount(**FAR_AWAY["mount"])))
    near = np.array([0.0, 0.0, 0.0, math.pi / 2, 0.0])
    clamped = 0
    for _ in range(6):
        episode = attempt(site, max_moves=3)
        assert episode.outcome.label != Label.ABORTED
        for step in episode.steps[:-1]:
            wished, commanded = (
                step.observation.pose.moved_by(action) for action in (step.wished, step.commanded)
            )
            within = inverse.nearest_reachable(wished, near=near)
            np.testing.assert_allclose(xyz(commanded), xyz(within), atol=1e-5)
            clamped += bool(np.linalg.norm(xyz(commanded) - xyz(wished)) > 1e-3)
    assert clamped > 2


def test_a_gantry_reaches_everything_and_has_no_joints():
    robot = SimulatedRobot.open({"seed": 4})
    assert robot.nearest_reachable(ABOVE) is ABOVE
    with pytest.raises(ConfigurationError, match="no joints"):
        robot.arm_in_scene()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arm": "so102"}, "expected one of so101, wx200"),
        ({"arm": "so101", "parking": {"x_m": 0.9, "y_m": 0.0, "z_m": 0.2}}, "cannot reach"),
        ({"arm": "so101", "mount": {"height_m": 0.1}}, "height_m"),
    ],
)
def test_an_arm_that_cannot_be_is_refused(options: dict[str, Any], said: str):
    with pytest.raises(ConfigurationError, match=said):
        SimulatedRobot.open(options)


def test_somebody_else_s_motors_lead_the_hand_and_feel_what_is_in_its_way():
    robot = robot_with_arm(object_count=(1, 1))
    robot.close_gripper()
    arm, inverse = robot.arm_in_scene(), InverseKinematics(model_of("so101"))
    joints = arm.joints_rad(robot.scene)

    def lead_to(x_m: float, y_m: float, z_m: float, seconds: float) -> np.ndarray:
        nonlocal joints
        pose = GripperPose(x_m=x_m, y_m=y_m, z_m=z_m, yaw_rad=0.0)
        solution = inverse.solve(pose, near=joints)
        assert solution is not None
        for share in np.linspace(0.0, 1.0, round(seconds / 0.01)):
            wanted = joints + share * (solution.joints_rad - joints)
            arm.follow(robot.scene, wanted, 0.01)
        joints = solution.joints_rad
        for _ in range(20):
            arm.follow(robot.scene, joints, 0.01)
        return joints

    free = lead_to(-0.09, 0.06, 0.05, 1.5)
    np.testing.assert_allclose(robot.scene.hand_position()[:3], [-0.09, 0.06, 0.05], atol=5e-4)
    np.testing.assert_allclose(arm.joints_rad(robot.scene), free, atol=0.01)
    assert np.abs(arm.torques_nm(robot.scene)).max() < 0.02

    pressed = lead_to(-0.09, 0.06, -0.02, 0.5)
    assert robot.scene.hand_position()[2] > -0.005
    held_back = arm.joints_rad(robot.scene)
    assert np.abs(held_back - pressed).max() > 0.02
    there = model_of("so101").forward(held_back)
    np.testing.assert_allclose(xyz(there), robot.scene.hand_position()[:3], atol=1e-4)
    assert np.abs(arm.torques_nm(robot.scene)).max() > 0.3


def test_time_that_is_no_whole_number_of_steps_is_made_up_for():
    robot = robot_with_arm()
    arm = robot.arm_in_scene()
    joints = arm.joints_rad(robot.scene)
    before_s = robot.scene.data.time
    for _ in range(100):
        arm.follow(robot.scene, joints, 0.0011)
    assert robot.scene.data.time - before_s == pytest.approx(0.11, abs=TIMESTEP_S)


def test_a_folded_arm_takes_the_hand_along_without_tilting_it():
    robot = robot_with_arm()
    arm, model = robot.arm_in_scene(), model_of("so101")
    start = arm.joints_rad(robot.scene)
    folded = np.array([start[0], -1.2, 1.5, 0.5, 0.0])
    assert model.tilt_rad(folded) > 0.5
    for share in np.linspace(0.0, 1.0, 200):
        arm.follow(robot.scene, start + share * (folded - start), 0.01)
    np.testing.assert_allclose(
        robot.scene.hand_position()[:3], xyz(model.forward(folded)), atol=3e-3
    )
    np.testing.assert_allclose(arm.joints_rad(robot.scene), folded, atol=0.02)
