"""Straight-line motions as series of set points for the hand's position control."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robot_agent.robots.simulated.hand import DAMPING, STIFFNESS
from robot_agent.robots.simulated.scene import TIMESTEP_S

STEPS_PER_SETPOINT = 2

MAX_SPEED = np.array([1.2, 1.2, 1.2, 9.0])
"""Of x, y, z (m/s) and yaw (rad/s)."""
MAX_ACCELERATION = np.array([14.0, 14.0, 14.0, 110.0])
"""m/s2 and rad/s2; what the force limits can follow."""
CARRYING_SLOWDOWN = 2.0
"""A closed gripper moves this much slower, hence with a quarter of the acceleration."""


def plan_line(
    start: NDArray[np.float64], target: NDArray[np.float64], *, gain: float, carrying: bool = False
) -> NDArray[np.float64]:
    """Return float64[N, 4]: set points from ``start`` to ``target``, smooth at both ends.

    The set points lead by the lag of the position control, so that the hand is where the
    smooth curve is.

    Args:
        start: float64[4], x, y, z (metres) and yaw (radians).
        target: float64[4].
        gain: stiffness of the position control relative to nominal.
        carrying: move gently, so that what is held is not shaken out of the grip.
    """
    way = target - start
    duration_s = _duration_s(np.abs(way)) * (CARRYING_SLOWDOWN if carrying else 1.0)
    count = max(1, math.ceil(duration_s / (TIMESTEP_S * STEPS_PER_SETPOINT)))
    phase = (np.arange(count) + 0.5) / count
    # Minimum-jerk profile and its derivative.
    share = phase**3 * (10 + phase * (6 * phase - 15))
    rate = 30 * phase**2 * (1 - phase) ** 2 / max(duration_s, TIMESTEP_S)
    lag_s = DAMPING / STIFFNESS / math.sqrt(gain)
    return np.asarray(start + (share[:, None] + rate[:, None] * lag_s) * way, np.float64)


def _duration_s(way: NDArray[np.float64]) -> float:
    """Shortest time in which a minimum-jerk motion keeps every axis within its limits."""
    by_speed = 1.875 * way / MAX_SPEED
    by_acceleration = np.sqrt(5.78 * way / MAX_ACCELERATION)
    return float(np.maximum(by_speed, by_acceleration).max())
