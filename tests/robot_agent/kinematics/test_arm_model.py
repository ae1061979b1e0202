import math
from pathlib import Path

import numpy as np
import pytest

from protocol.errors import ConfigurationError
from robot_agent.kinematics.arm_model import ArmModel, Mount, known_arms
from robot_agent.robots.so101 import WORKING_OPENING_M
from tests.robot_agent.kinematics.vertical_poses import ARMS, MOUNT, position, vertical_poses

SO101_AS_PUBLISHED = (
    ((0.0388353, -8.97657e-09, 0.0624), (math.pi, 0.0, -math.pi)),
    ((-0.0303992, -0.0182778, -0.0542), (-math.pi / 2, -math.pi / 2, 0.0)),
    ((-0.11257, -0.028, 0.0), (0.0, 0.0, math.pi / 2)),
    ((-0.1349, 0.0052, 0.0), (0.0, 0.0, -math.pi / 2)),
    ((0.0, -0.0611, 0.0181), (math.pi / 2, 0.0486795, math.pi)),
)
"""Origins and roll, pitch, yaw of the makers' file; every joint turns about its own z."""
SO101_TIP = (-0.0079, -0.000218121, -0.0981274)
"""Of the jaw that stands still; the grasp point is half a working opening from it."""


def frame(place: tuple[float, ...], roll: float, pitch: float, yaw: float) -> np.ndarray:
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    turned = np.eye(4)
    turned[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    turned[:3, 3] = place
    return turned


def test_the_so101_is_where_its_makers_own_chain_of_frames_puts_it():
    arm = ArmModel.load("so101")
    rng = np.random.default_rng(3)
    for joints in rng.uniform(arm.lower_rad, arm.upper_rad, (200, 5)):
        gripper = np.eye(4)
        for (place, turn), angle in zip(SO101_AS_PUBLISHED, joints, strict=True):
            gripper = gripper @ frame(place, *turn) @ frame((0, 0, 0), 0, 0, angle)
        ours = arm.transform(joints)
        fixed_tip = ours @ [0, -WORKING_OPENING_M / 2, 0, 1]
        np.testing.assert_allclose(fixed_tip, gripper @ [*SO101_TIP, 1], atol=2e-8)
        # The fingers close along the makers' x and point along their -z.
        np.testing.assert_allclose(ours[:3, 1], gripper[:3, 0], atol=1e-9)
        np.testing.assert_allclose(ours[:3, 2], gripper[:3, 2], atol=1e-9)


def test_the_wx200_is_where_the_drawing_of_its_links_puts_it():
    arm = ArmModel.load("wx200")
    rng = np.random.default_rng(3)
    for joints in rng.uniform(arm.lower_rad, arm.upper_rad, (200, 5)):
        waist, shoulder, elbow, wrist, _ = joints
        pitch = np.cumsum([shoulder, elbow, wrist])  # downwards
        out = 0.05 * math.cos(pitch[0]) + 0.2 * math.sin(pitch[0])
        up = 0.072 + 0.03865 + 0.2 * math.cos(pitch[0]) - 0.05 * math.sin(pitch[0])
        for length, angle in ((0.2, pitch[1]), (0.065 + 0.093575, pitch[2])):
            out, up = out + length * math.cos(angle), up - length * math.sin(angle)
        ours = arm.transform(joints)
        np.testing.assert_allclose(
            ours[:3, 3], [out * math.cos(waist), out * math.sin(waist), up], atol=1e-9
        )
        assert arm.tilt_rad(joints) == pytest.approx(
            abs(math.remainder(pitch[2] - math.pi / 2, 2 * math.pi)), abs=1e-6
        )


@pytest.mark.parametrize("name", ARMS)
def test_pitching_joints_that_add_up_to_straight_down_make_the_tool_vertical(name: str):
    arm = ArmModel.load(name, mount=MOUNT)
    for joints, _ in vertical_poses(arm, 50, seed=1):
        assert arm.tilt_rad(joints) < 1e-9


@pytest.mark.parametrize("name", ARMS)
def test_the_mount_moves_and_turns_what_the_arm_reaches(name: str):
    at_origin, mounted = ArmModel.load(name), ArmModel.load(name, mount=MOUNT)
    cos, sin = math.cos(MOUNT.yaw_rad), math.sin(MOUNT.yaw_rad)
    for joints, pose in vertical_poses(at_origin, 20, seed=2):
        x, y, z = position(pose)
        there = mounted.forward(joints)
        np.testing.assert_allclose(
            position(there),
            [MOUNT.x_m + cos * x - sin * y, MOUNT.y_m + sin * x + cos * y, MOUNT.z_m + z],
            atol=1e-12,
        )
        turn = math.remainder(there.yaw_rad - pose.yaw_rad - MOUNT.yaw_rad, 2 * math.pi)
        assert turn == pytest.approx(0, abs=1e-12)


def test_limits_measured_on_an_arm_narrow_the_models_and_never_widen_them():
    model = ArmModel.load("so101")
    measured = np.stack([model.lower_rad - 0.1, model.upper_rad - 0.2], axis=1)
    narrowed = ArmModel.load("so101", limits_rad=measured)
    np.testing.assert_allclose(narrowed.lower_rad, model.lower_rad)
    np.testing.assert_allclose(narrowed.upper_rad, model.upper_rad - 0.2)
    assert [joint.name for joint in narrowed.joints] == [joint.name for joint in model.joints]


def test_limits_of_another_arm_are_refused():
    with pytest.raises(ConfigurationError, match="for 5 joints"):
        ArmModel.load("so101", limits_rad=np.array([[-1.0, 1.0]] * 4))


def test_a_joint_without_room_is_refused_by_name():
    limits = np.array([[-1.0, 1.0]] * 5)
    limits[2] = (1.8, 1.9)
    with pytest.raises(ConfigurationError, match="elbow_flex: no room"):
        ArmModel.load("so101", limits_rad=limits)


def test_an_unknown_arm_is_refused_with_the_known_ones():
    assert set(known_arms()) == set(ARMS)
    with pytest.raises(ConfigurationError, match="no such model; known arms: so101, wx200"):
        ArmModel.load("so102")


def test_a_model_of_ones_own_is_loaded_from_its_path(tmp_path: Path):
    own = tmp_path / "longer_arm.urdf"
    text = (Path("robot_agent") / "kinematics" / "models" / "wx200.urdf").read_text()
    own.write_text(text.replace('xyz="0.2 0 0"', 'xyz="0.25 0 0"'))
    arm = ArmModel.load(own, mount=Mount(z_m=0.1))
    assert arm.name == "longer_arm"
    assert arm.forward(np.zeros(5)).x_m == pytest.approx(0.458575)


def test_a_model_whose_calibration_could_not_be_read_again_is_refused(tmp_path: Path):
    own = tmp_path / "my arm.urdf"
    own.write_text((Path("robot_agent") / "kinematics" / "models" / "wx200.urdf").read_text())
    with pytest.raises(ConfigurationError, match="name 'my arm': up to 64 letters"):
        ArmModel.load(own)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('type="revolute"', 'type="prismatic"', "neither 'revolute' nor 'fixed'"),
        ('<child link="grasp_point"/>', '<child link="elsewhere"/>', "grasp_point"),
        (
            '<joint name="wrist_rotate" type="revolute">',
            '<joint name="r" type="fixed">',
            "5 or more",
        ),
        ('lower="-3.14158"', 'lower="low"', "low"),
        ('name="wrist_rotate"', 'name="wrist rotate"', "name 'wrist rotate': up to 64 letters"),
        ("</robot>", "", "no element"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(tmp_path: Path, old: str, new: str, said: str):
    text = (Path("robot_agent") / "kinematics" / "models" / "wx200.urdf").read_text()
    broken = tmp_path / "broken.urdf"
    broken.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError, match=said):
        ArmModel.load(broken)
