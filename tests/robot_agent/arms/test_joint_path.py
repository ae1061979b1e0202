import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_agent.arms.joint_path import JointPath, minimum_jerk, path_through
from robot_agent.config import SafetyConfig

SAFETY = SafetyConfig(
    max_speed_m_s=0.2,
    max_acceleration_m_s2=0.8,
    max_joint_speed_rad_s=1.5,
    max_joint_acceleration_rad_s2=6.0,
)


def straight(turn_rad: float, way_m: float, count: int = 25) -> JointPath:
    shares = minimum_jerk(count)[:, None]
    joints = shares * np.array([turn_rad, -turn_rad / 2, 0.0])
    return path_through(joints, shares * np.array([way_m, 0.0, 0.0]), safety=SAFETY)


def rates(path: JointPath) -> tuple[float, float]:
    """Return the highest speed and acceleration of any joint, finely sampled."""
    times = np.linspace(0.0, path.duration_s, 2001)
    joints = np.stack([path.at(float(time)) for time in times])
    speed = np.gradient(joints, times, axis=0)
    return float(np.abs(speed).max()), float(np.abs(np.gradient(speed, times, axis=0)).max())


@settings(max_examples=30)
@given(turn_rad=st.floats(0.01, 5.0), way_m=st.floats(0.0, 0.6), count=st.integers(9, 41))
def test_nothing_exceeds_its_limit_and_something_is_near_it(
    turn_rad: float, way_m: float, count: int
):
    path = straight(turn_rad, way_m, count)
    joint_speed, joint_acceleration = rates(path)
    tip_speed, tip_acceleration = (
        rate / turn_rad * way_m for rate in (joint_speed, joint_acceleration)
    )
    shares = [
        joint_speed / SAFETY.max_joint_speed_rad_s,
        joint_acceleration / SAFETY.max_joint_acceleration_rad_s2,
        tip_speed / SAFETY.max_speed_m_s,
        tip_acceleration / SAFETY.max_acceleration_m_s2,
    ]
    assert 0.97 < max(shares) < 1.02 or path.duration_s < 0.1


def test_a_path_begins_and_ends_where_it_should_at_rest():
    path = straight(1.0, 0.2)
    assert path.at(-1.0) == pytest.approx([0.0, 0.0, 0.0])
    assert path.at(path.duration_s) == pytest.approx([1.0, -0.5, 0.0])
    assert path.at(path.duration_s + 9) == pytest.approx([1.0, -0.5, 0.0])
    assert np.abs(path.at(1e-3 * path.duration_s)).max() < 1e-5


def test_a_way_of_no_length_takes_no_time_to_speak_of():
    path = straight(0.0, 0.0)
    assert 0 < path.duration_s < 0.05
    assert path.at(0.01) == pytest.approx([0.0, 0.0, 0.0])


def test_a_slower_way_takes_as_many_times_as_long():
    joints = minimum_jerk(9)[:, None] * np.ones(3)
    tips = np.zeros((9, 3))
    once = path_through(joints, tips, safety=SAFETY)
    assert path_through(joints, tips, safety=SAFETY, slowdown=4.0).duration_s == pytest.approx(
        4 * once.duration_s
    )
