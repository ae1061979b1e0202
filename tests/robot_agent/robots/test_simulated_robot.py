"""The simulated robot's own promises: honest physics, honest labels, repeatable scenes."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from protocol.episode import GripperPose, ReferenceOutcome
from protocol.errors import ConfigurationError, RobotError
from robot_agent.config import LabelConfig
from robot_agent.robots.simulated import SimulatedRobot, randomised_options
from robot_agent.robots.simulated.gantry import PARK_POSITION
from robot_agent.robots.simulated.hand import GRIP_FORCE_N
from robot_agent.robots.simulated.objects import (
    HELD_OUT_KIND,
    HELD_OUT_SCALES,
    TRAINING_SCALES,
)
from robot_agent.robots.simulated.scene import BIN_HALF_M, WORKSPACE_M

LIFT_M = 0.15


def pose(x_m: float, y_m: float, z_m: float, yaw_rad: float) -> GripperPose:
    return GripperPose(x_m=x_m, y_m=y_m, z_m=z_m, yaw_rad=yaw_rad)


@dataclass(frozen=True)
class Attempt:
    claimed: bool
    reference: ReferenceOutcome


def grasp_at(robot: SimulatedRobot, *way: GripperPose) -> Attempt:
    """Open, follow ``way``, close, lift, judge, put away: as an agent would."""
    robot.open_gripper()
    for point in way:
        robot.move_to(point)
    robot.close_gripper()
    here = robot.state().pose
    lifted = robot.move_to(pose(here.x_m, here.y_m, LIFT_M, here.yaw_rad))
    attempt = Attempt(
        claimed=lifted.opening_m > LabelConfig().min_opening_m,
        reference=robot.reference_outcome(),
    )
    robot.move_to(pose(0.0, 0.0, 0.10, 0.0))
    robot.open_gripper()
    robot.retreat()
    return attempt


def random_attempt(robot: SimulatedRobot, random: np.random.Generator) -> Attempt:
    (x_low, x_high), (y_low, y_high), _ = WORKSPACE_M

    def anywhere(low_m: float, high_m: float) -> GripperPose:
        return pose(
            random.uniform(x_low, x_high),
            random.uniform(y_low, y_high),
            random.uniform(low_m, high_m),
            random.uniform(-math.pi / 2, math.pi / 2),
        )

    robot.prepare_attempt()
    return grasp_at(robot, anywhere(0.10, 0.12), anywhere(0.03, 0.10), anywhere(0.001, 0.02))


def oracle_pose(robot: SimulatedRobot) -> GripperPose | None:
    """Straddle the only object across its length, shifted so that both fingers clear the walls;
    None unless it lies flat."""
    scene = robot.scene
    body = scene.object_bodies[0]
    rotation = scene.data.xmat[body].reshape(3, 3)
    centre = scene.data.xipos[body][:2].copy()
    if rotation[2, 2] < 0.95:
        return None
    yaw = math.atan2(rotation[1, 0], rotation[0, 0])
    across = np.array([-math.sin(yaw), math.cos(yaw)])
    shifts = sorted(np.linspace(-0.028, 0.028, 29), key=abs)
    for shift in shifts:
        middle = centre + shift * across
        tips = np.stack([middle + 0.048 * across, middle - 0.048 * across])
        if (np.abs(tips) < np.asarray(BIN_HALF_M) - 0.003).all():
            return pose(*middle, 0.003, yaw)
    return None


def test_random_commands_succeed_on_ten_to_thirty_percent_and_labels_never_lie():
    random = np.random.default_rng(5)
    attempts = []
    for seed in range(4):  # robots as a fleet has them, with worn grippers too
        robot = SimulatedRobot.open(randomised_options(seed, "camera-and-wear"))
        attempts += [random_attempt(robot, random) for _ in range(75)]
    successes = sum(attempt.reference.success for attempt in attempts)
    assert 0.10 <= successes / len(attempts) <= 0.30
    assert not [a for a in attempts if a.claimed and not a.reference.success]
    missed = [a for a in attempts if a.reference.success and not a.claimed]
    assert len(missed) <= 0.05 * successes


def test_an_oracle_aimed_at_lying_cutlery_nearly_always_succeeds():
    robot = SimulatedRobot.open({"seed": 3, "object_count": [1, 1], "attempts_per_scene": 1})
    attempts = []
    while len(attempts) < 40:
        robot.prepare_attempt()
        target = oracle_pose(robot)
        if target is not None:
            above = pose(target.x_m, target.y_m, 0.08, target.yaw_rad)
            attempts.append(grasp_at(robot, above, target))
    assert sum(a.claimed and a.reference.success for a in attempts) >= 37


@pytest.mark.parametrize("objects", ["training", "held-out"])
def test_the_same_seed_gives_the_same_scenes_and_the_same_outcomes(objects: str):
    def history() -> list[object]:
        robot = SimulatedRobot.open({"seed": 8, "objects": objects, "attempts_per_scene": 3})
        random = np.random.default_rng(2)
        record: list[object] = []
        for _ in range(8):
            attempt = random_attempt(robot, random)
            record += [attempt, robot.state().opening_m, robot.scene.data.qpos.tolist()]
        return record

    assert history() == history()


def test_another_seed_gives_another_bin():
    first, second = (SimulatedRobot.open({"seed": seed}) for seed in (1, 2))
    assert first.scene.objects != second.scene.objects


def test_training_and_held_out_bins_share_neither_scales_nor_the_held_out_kind():
    def contents(objects: str) -> list[tuple[str, float]]:
        robot = SimulatedRobot.open({"seed": 6, "objects": objects, "attempts_per_scene": 1})
        seen = []
        for _ in range(8):
            robot.prepare_attempt()
            seen += [(item.kind.name, item.scale) for item in robot.scene.objects]
        return seen

    training, held_out = contents("training"), contents("held-out")
    assert HELD_OUT_KIND.name not in {kind for kind, _ in training}
    assert HELD_OUT_KIND.name in {kind for kind, _ in held_out}
    for seen, ranges in ((training, TRAINING_SCALES), (held_out, HELD_OUT_SCALES)):
        assert all(any(low <= scale <= high for low, high in ranges) for _, scale in seen)


@pytest.mark.parametrize("objects", ["training", "held-out"])
def test_at_least_half_of_every_bin_is_cutlery_and_lies_inside_it(objects: str):
    robot = SimulatedRobot.open({"seed": 9, "objects": objects, "attempts_per_scene": 1})
    for _ in range(6):
        robot.prepare_attempt()
        kinds = [item.kind.name for item in robot.scene.objects]
        cutlery = sum(kind in ("knife", "fork", "spoon") for kind in kinds)
        assert 6 <= len(kinds) <= 8
        assert cutlery * 2 >= len(kinds)
        assert robot.scene.objects_outside() == 0


def test_cutlery_weighs_what_cutlery_weighs():
    robot = SimulatedRobot.open({"seed": 9})
    model = robot.scene.model
    for item, body in zip(robot.scene.objects, robot.scene.object_bodies, strict=True):
        assert 0.005 < model.body_mass[body] < 0.08, item.kind.name


def test_the_floor_stops_the_fingers():
    robot = SimulatedRobot.open({"seed": 2})
    assert robot.move_to(pose(0.0, 0.0, -0.05, 0.0)).pose.z_m > -0.004


def test_a_wall_stops_the_fingers_from_above():
    robot = SimulatedRobot.open({"seed": 2})
    robot.open_gripper()
    robot.move_to(pose(0.0, 0.07, 0.10, 0.0))
    assert robot.move_to(pose(0.0, 0.07, 0.002, 0.0)).pose.z_m > 0.02


def test_the_hand_travels_instead_of_jumping():
    robot = SimulatedRobot.open({"seed": 2})
    before = robot.scene.data.time
    robot.move_to(pose(0.08, 0.05, 0.10, 1.0))
    assert robot.scene.data.time - before > 0.2


def test_the_bin_is_refilled_after_the_agreed_number_of_attempts():
    robot = SimulatedRobot.open({"seed": 2, "attempts_per_scene": 3})
    assert [robot.prepare_attempt() for _ in range(7)] == [
        True, False, False, True, False, False, True,
    ]  # fmt: skip
    assert robot.scene_resets == 0


def test_an_object_that_left_the_bin_is_noticed_and_the_bin_refilled():
    robot = SimulatedRobot.open({"seed": 2})
    robot.prepare_attempt()
    scene = robot.scene
    joint = scene.model.body_jntadr[scene.object_bodies[0]]
    address = scene.model.jnt_qposadr[joint]
    scene.data.qpos[address : address + 3] = [0.3, 0.0, 0.02]
    robot.move_to(pose(0.0, 0.0, 0.2, 0.0))
    assert robot.prepare_attempt() is True
    assert robot.scene_resets == 1
    assert robot.scene.objects_outside() == 0


def test_physics_that_breaks_aborts_the_attempt_and_the_next_one_works():
    robot = SimulatedRobot.open({"seed": 2})
    robot.prepare_attempt()
    robot.scene.data.qvel[0] = np.nan
    with pytest.raises(RobotError, match="unstable"):
        robot.move_to(pose(0.0, 0.0, 0.1, 0.0))
    assert robot.prepare_attempt() is True
    assert robot.scene_resets == 1
    reached = robot.move_to(pose(0.0, 0.0, 0.1, 0.0)).pose
    assert reached.z_m == pytest.approx(0.1, abs=0.002)


def test_a_simulator_that_gives_up_aborts_the_attempt_and_the_next_one_works():
    robot = SimulatedRobot.open({"seed": 2})
    robot.prepare_attempt()
    robot.scene.model.opt.integrator = 99  # MuJoCo's own check throws, as its others would
    with pytest.raises(RobotError, match=r"unstable \(.+\); the bin is refilled"):
        robot.move_to(pose(0.0, 0.0, 0.1, 0.0))
    assert robot.prepare_attempt() is True
    assert robot.scene_resets == 1
    reached = robot.move_to(pose(0.0, 0.0, 0.1, 0.0)).pose
    assert reached.z_m == pytest.approx(0.1, abs=0.002)


def test_the_hand_waits_where_it_retreats_to():
    robot = SimulatedRobot.open({"seed": 2})
    np.testing.assert_allclose(
        robot.state().pose.as_array()[:3], robot.retreat().pose.as_array()[:3], atol=0.002
    )
    assert PARK_POSITION[2] > 0.3


def test_an_object_that_slips_out_while_the_hand_retreats_is_not_read_as_held():
    robot = SimulatedRobot.open({"seed": 2})
    robot.retreat()
    # The fingers close as slowly as over something that still holds them apart.
    robot.scene.data.ctrl[4:6] = -GRIP_FORCE_N / 10
    assert robot.retreat().opening_m < 0.002


def test_wear_and_drift_shift_the_reading_of_a_closed_gripper_but_never_to_a_success():
    def closed(options: dict[str, float]) -> float:
        robot = SimulatedRobot.open({"seed": 2, "opening_noise_m": 0.0, **options})
        return robot.close_gripper()

    new, worn = closed({}), closed({"gripper_wear": 1.0, "opening_drift_m": 0.0004})
    assert new < 0.0005
    assert new < worn < 0.002


def test_latency_lets_simulated_time_pass_before_a_motion():
    def duration_s(latency_s: float) -> float:
        robot = SimulatedRobot.open({"seed": 2, "latency_s": latency_s})
        before = robot.scene.data.time
        robot.move_to(pose(0.0, 0.0, 0.2, 0.0))
        return robot.scene.data.time - before

    assert duration_s(0.1) - duration_s(0.0) == pytest.approx(0.1, abs=0.02)


def test_what_is_held_is_named_by_its_kind():
    robot = SimulatedRobot.open({"seed": 3, "object_count": [1, 1], "attempts_per_scene": 1})
    while True:
        robot.prepare_attempt()
        target = oracle_pose(robot)
        if target is None:
            continue
        attempt = grasp_at(robot, pose(target.x_m, target.y_m, 0.08, target.yaw_rad), target)
        assert attempt.reference.object_kind == robot.scene.objects[0].kind.name
        if attempt.reference.success:
            return


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"object_cuont": [6, 8]}, "did you mean 'object_count'"),
        ({"object_count": [8, 6]}, "fewest <= most"),
        ({"object_count": [6, 99]}, "12"),
        ({"gripper_wear": 1.5}, "gripper_wear"),
        ({"objects": "heldout"}, "objects"),
        ({"camera": {"fovy": 31}}, "camera.fovy"),
        ({"camera": {"position_m": [0.0, 0.0, 0.5]}}, "straight above"),
        ({"opening_drift_m": 0.01}, "opening_drift_m"),
        ({"latency_s": 3.0}, "latency_s"),
    ],
)
def test_an_option_out_of_range_is_refused_with_its_name(options: dict, message: str):
    with pytest.raises(ConfigurationError, match=message):
        SimulatedRobot.open(options)
