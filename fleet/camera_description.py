"""Rough camera descriptions, as wrong as a person's guess by eye."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.hand_eye import HandEyeMap
from robot_agent.config import CameraDescription

MAX_SHIFT_M = 0.02
MAX_SCALE_ERROR = 0.15


def falsify(truth: CameraDescription, rng: np.random.Generator) -> CameraDescription:
    """Return a description that is off by up to 2 cm and 15 %, and by at least half of that.

    Camera position and aim are each shifted in a random direction, the angle of view is scaled.
    """
    scale = 1.0 + float(rng.choice([-1.0, 1.0]) * MAX_SCALE_ERROR * rng.uniform(0.5, 1.0))
    return CameraDescription(
        position_m=_shifted(truth.position_m, rng),
        look_at_m=_shifted(truth.look_at_m, rng),
        vertical_fov_deg=round(truth.vertical_fov_deg * scale, 3),
    )


def _shifted(
    point: tuple[float, float, float], rng: np.random.Generator
) -> tuple[float, float, float]:
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    x, y, z = np.asarray(point) + direction * MAX_SHIFT_M * rng.uniform(0.5, 1.0)
    return round(float(x), 5), round(float(y), 5), round(float(z), 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class HandEyeErrors:
    """How far, in millimetres over the workspace, each of a robot's maps is from the truth."""

    described_mm: float | None
    """The falsified description."""
    found_mm: float | None
    """What the robot found by its own motion."""
    refined_mm: float | None
    """What the learner made of it."""


def workspace_points(
    x_m: tuple[float, float], y_m: tuple[float, float], z_m: tuple[float, float] = (0.005, 0.08)
) -> NDArray[np.float64]:
    """Return float64[N, 3]: a grid over the part of the workspace where grasps happen, metres."""
    axes = [np.linspace(*x_m, 7), np.linspace(*y_m, 7), np.linspace(*z_m, 4)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def error_mm(estimate: HandEyeMap, truth: HandEyeMap, points: NDArray[np.float64]) -> float:
    """Return the mean error of ``estimate`` over ``points``, millimetres."""
    return round(1000 * estimate.error_m(truth, points), 2)
