"""Nonlinear least squares by Levenberg and Marquardt's method, for a dozen unknowns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

MOST_STEPS = 100
SMALLEST_GAIN = 1e-9
"""Of the sum of squares, relative; a step that gains less is the last."""
MOST_DAMPING = 1e9
DIFFERENCE = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """What was found."""

    parameters: Vector
    """float64[P]."""
    residuals: Vector
    """float64[R]."""
    covariance: NDArray[np.float64]
    """float64[P, P]: how far the parameters may be off, if the residuals are independent errors
    of equal size. Directions that nothing determines are very long."""


def fit(residuals: Callable[[Vector], Vector], start: Vector) -> Fit:
    """Return the parameters near ``start``, float64[P], with the least sum of squared residuals.

    Args:
        residuals: maps parameters to residuals, float64[R].
        start: parameters of about the scale of 1.
    """
    parameters, errors, damping = start, residuals(start), 1e-3
    for _ in range(MOST_STEPS):
        slopes = _slopes(residuals, parameters)
        normal, gradient = slopes.T @ slopes, slopes.T @ errors
        before = errors @ errors
        while damping < MOST_DAMPING:
            damped = normal + damping * np.diag(np.diag(normal) + 1e-12)
            tried = parameters - np.linalg.solve(damped, gradient)
            tried_errors = residuals(tried)
            if tried_errors @ tried_errors < before:
                parameters, errors, damping = tried, tried_errors, damping / 10
                break
            damping *= 10
        if before - errors @ errors <= SMALLEST_GAIN * before:
            break
    return Fit(
        parameters=parameters,
        residuals=errors,
        covariance=_covariance(_slopes(residuals, parameters), errors),
    )


def _slopes(residuals: Callable[[Vector], Vector], parameters: Vector) -> NDArray[np.float64]:
    """Return float64[R, P]: the derivatives, by central differences."""
    steps = np.eye(len(parameters)) * DIFFERENCE
    columns = [
        (residuals(parameters + step) - residuals(parameters - step)) / (2 * DIFFERENCE)
        for step in steps
    ]
    return np.column_stack(columns)


def _covariance(slopes: NDArray[np.float64], errors: Vector) -> NDArray[np.float64]:
    count, unknowns = slopes.shape
    variance = float(errors @ errors) / max(1, count - unknowns)
    values, directions = np.linalg.eigh(slopes.T @ slopes)
    # What nothing determines stays finite, but much longer than anything measured.
    values = np.maximum(values, 1e-12 * max(1.0, float(values.max())))
    return np.asarray((directions / values) @ directions.T * variance, np.float64)
