import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ConfigurationError
from robot_agent.arms.joint_calibration import FILE, GripperScale, JointCalibration, JointScale
from tests.robot_agent.robots.emulated_arms import calibration_of

GOLDEN_DIGEST = "6f3e1281fa32771f17ebd08c0364abd073e3e688fee4c5596d4a3163dbffe083"
"""Of a calibration from before servos were asked: the policy's identity must not change with it."""
ANGLES = st.lists(st.floats(-7.0, 7.0), min_size=5, max_size=5).map(np.array)


def test_what_was_measured_is_read_again_and_another_measurement_is_told_apart(tmp_path: Path):
    found = calibration_of("so101")
    found.write(tmp_path)
    again = JointCalibration.read(tmp_path)
    assert again == found
    assert again.digest == found.digest
    wider = msgspec.structs.replace(found, gripper=GripperScale(closed_rad=0.1, open_rad=1.9))
    assert wider.digest != found.digest


def test_a_calibration_from_before_servos_were_asked_is_read_and_is_the_same_policy():
    now = calibration_of("so101")
    assert now.knows_its_servos
    before = msgspec.structs.replace(now, servos=(), gripper_servo=None)
    assert not before.knows_its_servos
    kept = msgspec.json.encode({name: getattr(now, name) for name in ("arm", "joints", "gripper")})
    assert msgspec.json.decode(kept, type=JointCalibration) == before
    assert before.digest == now.digest == GOLDEN_DIGEST


def test_an_arm_that_was_never_calibrated_has_none(tmp_path: Path):
    assert JointCalibration.read(tmp_path) is None
    assert JointCalibration.digest_in(tmp_path) == ""


@given(joints_rad=ANGLES)
def test_motors_and_joints_are_each_others_inverse(joints_rad: np.ndarray):
    found = calibration_of("so101")
    back = found.joints_from_motors(found.motors_from_joints(joints_rad))
    np.testing.assert_allclose(back, joints_rad, atol=1e-12)


def test_a_motor_that_turns_the_other_way_is_read_the_other_way():
    found = calibration_of("so101")
    assert found.joints_from_motors(np.array([0.2, 0.2, 0.2, 0.2, 0.2])) == pytest.approx(
        [0.2, -0.2, 0.15, 0.2, 0.2]
    )


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b'{"arm": "so101", "joints": []}',
        b'{"arm": "so101", "joints": [{"name": "a", "direction": 0, "zero_rad": 0,'
        b' "lower_rad": -1, "upper_rad": 1}]}',
        b'{"arm": "so101", "joints": [{"name": "a", "direction": 1, "zero_rad": 0,'
        b' "lower_rad": 1, "upper_rad": 1}]}',
        b'{"arm": "so101", "joints": [{"name": "a", "direction": 1, "zero_rad": 1e9,'
        b' "lower_rad": -1, "upper_rad": 1}]}',
        b'{"arm": "so101", "joints": [{"name": "a", "direction": 1, "zero_rad": 0,'
        b' "lower_rad": -1, "upper_rad": 1}], "servos": ['
        b'{"servo_id": 1, "model": 777, "homing_offset": 0},'
        b'{"servo_id": 2, "model": 777, "homing_offset": 0}]}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_says_what_to_do(damage: bytes, tmp_path: Path):
    (tmp_path / FILE).write_bytes(damage)
    with pytest.raises(ConfigurationError, match="run `robot-agent calibrate`"):
        JointCalibration.read(tmp_path)


@given(content=st.binary(max_size=300))
def test_any_file_is_a_calibration_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("any")
    (folder / FILE).write_bytes(content)
    with pytest.raises(ConfigurationError):
        JointCalibration.read(folder)


def test_ends_that_are_none_are_refused():
    with pytest.raises(ValueError, match="is not below"):
        JointScale(name="a", direction=1, zero_rad=0.0, lower_rad=0.5, upper_rad=0.5)
    with pytest.raises(ValueError, match="the same"):
        GripperScale(closed_rad=1.0, open_rad=1.0 + math.ulp(1.0))
