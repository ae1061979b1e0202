"""How a gripper's motor moves its finger tips: turn of the motor from closed, to opening."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Linkage(Protocol):
    """What is between motor and finger tips. Turns are counted from closed, opening positive."""

    def opening_m(self, turn_rad: float) -> float:
        """Return the distance of the finger tips."""
        ...

    def turn_rad(self, opening_m: float) -> float:
        """Return the turn for an opening; the largest where there is none so wide."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class HingedJaw:
    """One jaw turns about a hinge, the other stands still: the tip moves on a circle."""

    length_m: float
    """From the hinge to the tip."""

    def opening_m(self, turn_rad: float) -> float:
        """Return the chord between the tips."""
        return 2 * self.length_m * math.sin(turn_rad / 2)

    def turn_rad(self, opening_m: float) -> float:
        """Return the turn for an opening."""
        return 2 * math.asin(min(1.0, opening_m / (2 * self.length_m)))


@dataclass(frozen=True, kw_only=True, slots=True)
class CrankJaws:
    """A horn on the motor moves both fingers along a rail, by a rod each."""

    horn_m: float
    rod_m: float
    closed_m: float
    """From the motor's axis to the finger's joint while closed."""

    def opening_m(self, turn_rad: float) -> float:
        """Return twice what each finger has moved."""
        angle = self._horn_rad(self.closed_m) + turn_rad
        rod = math.sqrt(self.rod_m**2 - (self.horn_m * math.cos(angle)) ** 2)
        return 2 * (self.horn_m * math.sin(angle) + rod - self.closed_m)

    def turn_rad(self, opening_m: float) -> float:
        """Return the turn for an opening."""
        return self._horn_rad(self.closed_m + opening_m / 2) - self._horn_rad(self.closed_m)

    def _horn_rad(self, finger_m: float) -> float:
        """Return the horn's angle with a finger's joint so far from the axis; law of cosines."""
        sine = (finger_m**2 + self.horn_m**2 - self.rod_m**2) / (2 * finger_m * self.horn_m)
        return math.asin(min(1.0, sine))
