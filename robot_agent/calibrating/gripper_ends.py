"""A gripper's motor finds its own two ends, gently."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from protocol.errors import RobotError
from robot_agent.arms.clock import Clock
from robot_agent.arms.joint_calibration import GripperScale
from robot_agent.arms.servo_group import ServoGroup
from robot_agent.calibrating.joint_ranges import centre
from robot_agent.robots.base import unwatched

TORQUE = 0.2
"""Share of what the motor can do: it stops at a finger."""
SPEED_RAD_S, ACCELERATION_RAD_S2 = 0.6, 4.0
CYCLE_S = 0.02
STILL_RAD, STILL_CYCLES = 0.006, 12
LIMIT_S = 12.0
SCALE_RAD = math.pi - 0.01
"""A motor cannot be sent beyond the end of its scale."""
NARROWEST_RAD = 0.3


def find_ends(
    jaw: ServoGroup,
    clock: Clock,
    *,
    forget: Callable[[], None],
    closes_upwards: bool = False,
    check: Callable[[], None] = unwatched,
) -> GripperScale:
    """Close and open the jaw until it stops; it ends open and limp.

    Args:
        jaw: the gripper's motor, a group of one.
        clock: for every wait.
        forget: see ``centre``.
        closes_upwards: its counts grow as the jaw closes.
        check: called before every motion and in its every cycle; what it raises ends the motion.

    Raises:
        RobotError: it does not answer, does not take its new zero, or does not move.
    """
    jaw.set_torque(False, TORQUE)
    # Wherever it stands: both ends are less than half a turn away.
    centre(jaw, ["gripper"], clock, forget=forget)
    try:
        closing = SCALE_RAD if closes_upwards else -SCALE_RAD
        jaw.set_torque(True, TORQUE)
        closed_rad = _seek(jaw, closing, clock, check)
        open_rad = _seek(jaw, -closing, clock, check)
    finally:
        jaw.set_torque(False, TORQUE)
    if abs(open_rad - closed_rad) < NARROWEST_RAD:
        raise RobotError(
            f"gripper: moved by {abs(open_rad - closed_rad):.2f} rad only: is something in the "
            "jaw, or is its motor's supply off?"
        )
    return GripperScale(closed_rad=closed_rad, open_rad=open_rad)


def _seek(jaw: ServoGroup, goal_rad: float, clock: Clock, check: Callable[[], None]) -> float:
    """Drive slowly to ``goal_rad``; return where the jaw stopped."""
    check()
    jaw.command(
        np.array([goal_rad]),
        speeds_rad_s=np.array([SPEED_RAD_S]),
        accelerations_rad_s2=np.array([ACCELERATION_RAD_S2]),
    )
    seen: deque[float] = deque(maxlen=STILL_CYCLES)
    end_s = clock.monotonic_s() + LIMIT_S
    while clock.monotonic_s() < end_s:
        clock.sleep(CYCLE_S)
        check()
        seen.append(float(jaw.read().positions_rad[0]))
        if len(seen) == STILL_CYCLES and max(seen) - min(seen) < STILL_RAD:
            return seen[-1]
    raise RobotError(f"gripper: still on its way after {LIMIT_S:g} s")
