"""How fast a figure grows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

_Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slope:
    """Growth per hour by least squares, with its 95 % interval."""

    per_hour: float
    low: float
    high: float


def slope_of(times_s: ArrayLike, values: ArrayLike) -> Slope:
    """Return the slope of a line through the values.

    The interval takes the residuals as independent and normal; it is too narrow for figures that
    wander, and for fewer than some thirty samples.

    Raises:
        ValueError: there are fewer than three samples.
    """
    hours = np.asarray(times_s, np.float64) / 3600
    heights = np.asarray(values, np.float64)
    if len(hours) < 3:
        raise ValueError(f"{len(hours)} samples: a slope with an interval needs three")
    centred = hours - hours.mean()
    spread = float(centred @ centred)
    slope = float(centred @ heights) / spread
    residuals = heights - heights.mean() - slope * centred
    error = math.sqrt(float(residuals @ residuals) / (len(hours) - 2) / spread)
    return Slope(per_hour=slope, low=slope - _Z95 * error, high=slope + _Z95 * error)
