"""JointPath: a way through joint angles at the speed that every limit allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_agent.config import SafetyConfig

PEAK_SPEED = 1.875
"""Of a minimum-jerk motion over the unit way in the unit time (Flash and Hogan 1985)."""
PEAK_ACCELERATION = 10 / math.sqrt(3)

_SHORTEST_S = 0.02


def minimum_jerk(count: int) -> NDArray[np.float64]:
    """Return float64[count]: shares of the way at moments evenly apart, at rest at both ends."""
    t = np.linspace(0.0, 1.0, count)
    return np.asarray(t**3 * (10 + t * (6 * t - 15)), np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class JointPath:
    """Joint angles at moments evenly apart, smooth between them."""

    joints_rad: NDArray[np.float64]
    """float64[M, N], M at least 2."""
    duration_s: float

    def at(self, time_s: float) -> NDArray[np.float64]:
        """Return the joint angles, float64[N], at a time from the start; before and after, the
        ends.
        """
        points = self.joints_rad
        position = min(max(time_s / self.duration_s, 0.0), 1.0) * (len(points) - 1)
        index = min(int(position), len(points) - 2)
        u = position - index
        # Cubic Hermite with central differences as slopes; at rest at both ends.
        here, there = points[index], points[index + 1]
        slope_here = (there - points[index - 1]) / 2 if index > 0 else 0.0 * here
        slope_there = (points[index + 2] - here) / 2 if index + 2 < len(points) else 0.0 * here
        start = (1 + 2 * u) * (1 - u) ** 2 * here + u * (1 - u) ** 2 * slope_here
        return np.asarray(start + u**2 * (3 - 2 * u) * there + u**2 * (u - 1) * slope_there)


def path_through(
    joints_rad: NDArray[np.float64],
    *,
    length_m: float,
    safety: SafetyConfig,
    slowdown: float = 1.0,
) -> JointPath:
    """Give a way its duration: the shortest in which nothing exceeds its limit.

    Args:
        joints_rad: float64[M, N], at the shares of the way that ``minimum_jerk(M)`` gives.
        length_m: of the finger tips' way; 0 where it does not matter.
        safety: the limits.
        slowdown: how many times the shortest duration.
    """
    step = 1 / (len(joints_rad) - 1)
    speed = np.abs(np.diff(joints_rad, axis=0)).max() / step
    rest = np.concatenate([joints_rad[:1], joints_rad, joints_rad[-1:]])
    acceleration = np.abs(np.diff(rest, n=2, axis=0)).max() / step**2
    duration_s = max(
        _SHORTEST_S,
        speed / safety.max_joint_speed_rad_s,
        math.sqrt(acceleration / safety.max_joint_acceleration_rad_s2),
        PEAK_SPEED * length_m / safety.max_speed_m_s,
        math.sqrt(PEAK_ACCELERATION * length_m / safety.max_acceleration_m_s2),
    )
    return JointPath(joints_rad=joints_rad, duration_s=duration_s * slowdown)


def straight_in_joints(
    start_rad: NDArray[np.float64],
    end_rad: NDArray[np.float64],
    *,
    safety: SafetyConfig,
    slowdown: float = 1.0,
) -> JointPath:
    """Return the way on which all joints move together, whatever the hand does meanwhile."""
    shares = minimum_jerk(33)[:, None]
    way = start_rad + shares * (end_rad - start_rad)
    return path_through(way, length_m=0.0, safety=safety, slowdown=slowdown)
