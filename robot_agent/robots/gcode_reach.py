"""Where a Cartesian controller's arm gets: an annulus around its foot, between two heights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from protocol.episode import GripperPose
from robot_agent.robots.gcode_options import GcodeOptions

WRIST_CENTRE_DEG = 90.0
SAME = 1e-6
"""Metres and radians."""
CUT_M = 1e-4
"""A line may come so much nearer to the axis than the arm should."""
LARGEST_TURN_RAD = math.radians(15)
"""Of the arm about its axis, between two places of a way around it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GcodePose:
    """What the controller is told: tip in its own frame, and the wrist's servo."""

    x_m: float
    y_m: float
    z_m: float
    wrist_deg: float


class GcodeReach:
    """Turns poses of the base frame into the controller's own, and clamps them to what it can."""

    def __init__(self, options: GcodeOptions) -> None:
        self._options = options
        self._mount = options.mount

    def to_controller(self, pose: GripperPose) -> GcodePose:
        """Return ``pose``, or the nearest that can be had, as the controller is told it."""
        x_m, y_m = self._clamped(*self._local(pose))
        turn_rad = pose.yaw_rad - self._mount.yaw_rad - self._carried_rad(x_m, y_m)
        # The wrist goes a quarter turn either way, which is enough: jaws close alike both ways.
        turn_rad = math.remainder(turn_rad, math.pi)
        lowest, highest = self._options.heights_m
        return GcodePose(
            x_m=x_m,
            y_m=y_m,
            z_m=min(max(pose.z_m - self._mount.z_m, lowest), highest),
            wrist_deg=WRIST_CENTRE_DEG + self._options.wrist_direction * math.degrees(turn_rad),
        )

    def to_base(self, pose: GcodePose, *, near_yaw_rad: float) -> GripperPose:
        """Return a controller's pose in the base frame, with the yaw nearer to ``near_yaw_rad`` of
        the two that close alike.
        """
        cos, sin = math.cos(self._mount.yaw_rad), math.sin(self._mount.yaw_rad)
        wrist_rad = math.radians(pose.wrist_deg - WRIST_CENTRE_DEG) * self._options.wrist_direction
        yaw_rad = self._mount.yaw_rad + self._carried_rad(pose.x_m, pose.y_m) + wrist_rad
        return GripperPose(
            x_m=self._mount.x_m + cos * pose.x_m - sin * pose.y_m,
            y_m=self._mount.y_m + sin * pose.x_m + cos * pose.y_m,
            z_m=self._mount.z_m + pose.z_m,
            yaw_rad=near_yaw_rad + math.remainder(yaw_rad - near_yaw_rad, math.pi),
        )

    def nearest(self, pose: GripperPose) -> GripperPose:
        """Return ``pose`` where it can be had, else the nearest place that can."""
        found = self.to_base(self.to_controller(pose), near_yaw_rad=pose.yaw_rad)
        # What is merely computed twice is the same pose.
        return pose if np.allclose(found.as_array(), pose.as_array(), atol=SAME) else found

    def way(self, here: GcodePose, goal: GcodePose) -> list[GcodePose]:
        """Return where to go straight, one after the other, to get from ``here`` to ``goal``
        without coming nearer to the axis than the arm reaches, or going behind it.
        """
        start_rad, end_rad = (math.atan2(pose.y_m, pose.x_m) for pose in (here, goal))
        turn_rad = end_rad - start_rad
        nearest_m, farthest_m = self._options.reach_m
        if abs(turn_rad) <= math.pi and _nearest_to_axis_m(here, goal) >= nearest_m - CUT_M:
            return [goal]
        # At each place so far out that the line there from the last one only touches the circle.
        step_rad = min(LARGEST_TURN_RAD, math.acos(nearest_m / farthest_m))
        count = max(1, math.ceil(abs(turn_rad) / step_rad))
        clear_m = nearest_m / math.cos(turn_rad / count)
        start_m, end_m = (math.hypot(pose.x_m, pose.y_m) for pose in (here, goal))
        places = []
        for share in (number / count for number in range(1, count)):
            radius_m = max(clear_m, start_m + share * (end_m - start_m))
            angle_rad = start_rad + share * turn_rad
            x_m, y_m = radius_m * math.cos(angle_rad), radius_m * math.sin(angle_rad)
            z_m = here.z_m + share * (goal.z_m - here.z_m)
            places.append(replace(goal, x_m=x_m, y_m=y_m, z_m=z_m))
        return [*places, goal]

    def _local(self, pose: GripperPose) -> tuple[float, float]:
        dx, dy = pose.x_m - self._mount.x_m, pose.y_m - self._mount.y_m
        cos, sin = math.cos(self._mount.yaw_rad), math.sin(self._mount.yaw_rad)
        return cos * dx + sin * dy, -sin * dx + cos * dy

    def _clamped(self, x_m: float, y_m: float) -> tuple[float, float]:
        """Return the nearest place of the annulus' sector."""
        nearest, farthest = self._options.reach_m
        turn_rad = math.atan2(y_m, x_m)
        radius_m = math.hypot(x_m, y_m)
        if abs(turn_rad) > self._options.half_turn_rad:
            # The foot of the perpendicular on the sector's edge, if there is one.
            edge_rad = math.copysign(self._options.half_turn_rad, turn_rad)
            radius_m *= max(0.0, math.cos(turn_rad - edge_rad))
            turn_rad = edge_rad
        radius_m = min(max(radius_m, nearest), farthest)
        return radius_m * math.cos(turn_rad), radius_m * math.sin(turn_rad)

    def _carried_rad(self, x_m: float, y_m: float) -> float:
        return math.atan2(y_m, x_m) if self._options.is_wrist_carried else 0.0


def _nearest_to_axis_m(here: GcodePose, goal: GcodePose) -> float:
    """Return how near a straight line comes to the axis; a start that is nearer does not count, for
    nothing is to be done about that.
    """
    start, end = np.array([here.x_m, here.y_m]), np.array([goal.x_m, goal.y_m])
    way = end - start
    length2 = float(way @ way)
    share = min(1.0, max(0.0, -float(start @ way) / length2)) if length2 else 1.0
    return math.inf if share == 0.0 else float(np.linalg.norm(start + share * way))
