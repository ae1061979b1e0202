"""What an arm is put together from, and what is refused."""

from pathlib import Path

import pytest

from protocol.errors import ConfigurationError
from robot_agent.arms.arm_options import Parking
from tests.robot_agent.arms.arm_on_shafts import LOW, arm_on_shafts
from tests.robot_agent.robots.emulated_arms import calibration_of, emulated_so101


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


def test_the_calibration_of_another_arm_is_refused(tmp_path: Path):
    with emulated_so101(tmp_path) as emulated:
        calibration_of("wx200").write(tmp_path)
        with pytest.raises(ConfigurationError, match="of the arm 'wx200', this is a 'so101'"):
            emulated.open()
