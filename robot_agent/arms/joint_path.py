"""JointPath: a way through joint angles at the speed that every limit allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_agent.config import SafetyConfig

_SHORTEST_S = 0.02


def minimum_jerk(count: int) -> NDArray[np.float64]:
    """Return float64[count]: shares of the way at moments evenly apart, at rest at both ends.

    Flash and Hogan, "The coordination of arm movements" (1985).
    """
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
    tips_m: NDArray[np.float64],
    *,
    safety: SafetyConfig,
    slowdown: float = 1.0,
) -> JointPath:
    """Give a way its duration: the shortest in which nothing exceeds its limit.

    Args:
        joints_rad: float64[M, N], at the shares of the way that ``minimum_jerk(M)`` gives.
        tips_m: float64[M, 3], where the finger tips are then.
        safety: the limits.
        slowdown: how many times the shortest duration.
    """
    joint_speed, joint_acceleration = (np.abs(rates).max() for rates in _rates(joints_rad))
    speed, acceleration = (np.linalg.norm(rates, axis=1).max() for rates in _rates(tips_m))
    duration_s = max(
        _SHORTEST_S,
        joint_speed / safety.max_joint_speed_rad_s,
        math.sqrt(joint_acceleration / safety.max_joint_acceleration_rad_s2),
        speed / safety.max_speed_m_s,
        math.sqrt(acceleration / safety.max_acceleration_m_s2),
    )
    return JointPath(joints_rad=joints_rad, duration_s=duration_s * slowdown)


def _rates(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return speeds and accelerations along points[M, K] for a whole way of one second."""
    per_s = len(points) - 1
    at_rest = np.concatenate([points[:1], points, points[-1:]])
    return np.diff(points, axis=0) * per_s, np.diff(at_rest, n=2, axis=0) * per_s**2
