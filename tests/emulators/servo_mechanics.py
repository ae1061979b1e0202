"""What turns when a motor's electronics drive it: shafts on their own, or a simulated arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

LOAD_PER_RAD = 6.0
"""Share of the stall torque that a position controller gives per radian of error."""


@dataclass(kw_only=True, slots=True)
class Drive:
    """What the electronics of one motor want."""

    is_on: bool
    goal_rad: float
    max_speed_rad_s: float
    max_acceleration_rad_s2: float
    max_torque: float
    """Share of the stall torque."""


@dataclass(kw_only=True, slots=True)
class Shaft:
    """What the electronics of one motor measure."""

    position_rad: float = 0.0
    velocity_rad_s: float = 0.0
    load: float = 0.0
    """Share of the stall torque, signed as the position."""


class Mechanics(Protocol):
    """The mechanical side of all motors of one bus."""

    def step(self, drives: Mapping[int, Drive], dt_s: float) -> Mapping[int, Shaft]:
        """Let ``dt_s`` pass under these drives; return every motor's shaft, by id."""
        ...


class FreeShafts:
    """Every motor turns a shaft of its own, as fast as it may, until it meets something."""

    def __init__(self) -> None:
        self.shafts: dict[int, Shaft] = {}
        self.blocks: dict[int, tuple[float, float]] = {}
        """By id, the range in radians that a shaft cannot leave."""
        self.weights: dict[int, float] = {}
        """By id, the share of the stall torque that it takes to hold against gravity, signed."""
        self.give_rad = 0.0
        """By how much a weight of the whole stall torque pulls a shaft off its goal."""

    def step(self, drives: Mapping[int, Drive], dt_s: float) -> Mapping[int, Shaft]:
        """Let time pass; see Mechanics."""
        for servo_id, drive in drives.items():
            shaft = self.shafts.setdefault(servo_id, Shaft())
            self._turn(servo_id, shaft, drive, dt_s)
        return self.shafts

    def _turn(self, servo_id: int, shaft: Shaft, drive: Drive, dt_s: float) -> None:
        if not drive.is_on:
            shaft.velocity_rad_s = shaft.load = 0.0
            return
        weight = self.weights.get(servo_id, 0.0)
        error = drive.goal_rad - self.give_rad * weight - shaft.position_rad
        if abs(weight) > drive.max_torque:
            error = -math.copysign(math.inf, weight)  # it cannot hold, and sinks
        wished = math.copysign(self._speed(abs(error), drive, dt_s), error)
        change = drive.max_acceleration_rad_s2 * dt_s
        velocity = shaft.velocity_rad_s
        velocity = min(max(wished, velocity - change), velocity + change)
        step = velocity * dt_s
        # The last step ends at the goal, not behind it.
        if abs(step) >= abs(error):
            step, velocity = error, 0.0
        low, high = self.blocks.get(servo_id, (-math.inf, math.inf))
        position = min(max(shaft.position_rad + step, low), high)
        is_blocked = position != shaft.position_rad + step
        shaft.position_rad, shaft.velocity_rad_s = position, 0.0 if is_blocked else velocity
        push = LOAD_PER_RAD * (drive.goal_rad - position) if is_blocked else 0.0
        shaft.load = min(max(weight + push, -drive.max_torque), drive.max_torque)

    @staticmethod
    def _speed(distance_rad: float, drive: Drive, dt_s: float) -> float:
        """Return the speed from which the motor can still stop within ``distance_rad``."""
        lost = drive.max_acceleration_rad_s2 * dt_s / 2  # it changes its speed but once a step
        stopping = math.sqrt(2 * drive.max_acceleration_rad_s2 * distance_rad + lost**2) - lost
        return min(drive.max_speed_rad_s, stopping)
