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
    """Joint angles at moments evenly apart, and a cubic Hermite spline between them."""

    joints_rad: NDArray[np.float64]
    """float64[M, N], M at least 2."""
    slopes_rad: NDArray[np.float64]
    """float64[M, N], from one point to the next."""
    duration_s: float

    def at(self, time_s: float) -> NDArray[np.float64]:
        """Return the joint angles, float64[N], at a time from the start; before and after, the
        ends.
        """
        points, slopes, last = self.joints_rad, self.slopes_rad, len(self.joints_rad) - 1
        position = min(max(time_s / self.duration_s, 0.0), 1.0) * last
        index = min(int(position), last - 1)
        u = position - index
        start = (1 + 2 * u) * points[index] + u * slopes[index]
        end = (3 - 2 * u) * points[index + 1] + (u - 1) * slopes[index + 1]
        return np.asarray((1 - u) ** 2 * start + u**2 * end)


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
    return JointPath(
        joints_rad=joints_rad, slopes_rad=_slopes(joints_rad), duration_s=duration_s * slowdown
    )


def _slopes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return central differences at points[M, K]; zero at both ends, where it rests."""
    slopes = np.zeros_like(points)
    slopes[1:-1] = (points[2:] - points[:-2]) / 2
    return slopes


def _rates(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the spline's highest speeds and accelerations along points[M, K], each [L, K], for a
    whole way of one second.
    """
    per_s, slopes, steps = len(points) - 1, _slopes(points), np.diff(points, axis=0)
    before, after = slopes[:-1], slopes[1:]
    in_the_middle = 1.5 * steps - 0.25 * (before + after)
    bends = [6 * steps - 4 * before - 2 * after, -6 * steps + 2 * before + 4 * after]
    return np.concatenate([slopes, in_the_middle]) * per_s, np.concatenate(bends) * per_s**2
