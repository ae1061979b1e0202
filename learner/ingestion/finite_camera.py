"""Whether a hand-eye map is of a camera that stands somewhere: training divides by how far."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot

LEAST_VOLUME = 1e-6
"""Of the box that three directions of length 1 span: 1 at right angles, 0 in one plane."""


def has_finite_camera(matrix: Sequence[float]) -> bool:
    """Return whether a map's left three columns have rank 3, whatever the scale of its rows.

    In plain Python: the gateway asks of every record, and a numpy call alone takes longer.

    Args:
        matrix: float32[3, 4], row by row (see protocol.hand_eye).
    """
    a, b, c, _, d, e, f, _, g, h, i, _ = matrix
    volume = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return abs(volume) > LEAST_VOLUME * hypot(a, b, c) * hypot(d, e, f) * hypot(g, h, i)
