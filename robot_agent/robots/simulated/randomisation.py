"""Plausible simulated robots, no two alike, and the truth about their cameras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from protocol.hand_eye import HandEyeMap, pinhole_map
from robot_agent.robots.simulated.options import CameraPose, parse_options

POSITION_SPREAD_M = 0.04
"""Largest displacement of the camera along each axis."""
LOOK_AT_SPREAD_M = 0.015
FIELD_OF_VIEW_DEG = (30.0, 34.0)


def randomised_options(
    seed: int, extent: Literal["camera-and-wear", "everything"] = "everything"
) -> dict[str, Any]:
    """Draw one robot's options, as they would stand in its ``robot.toml``.

    Args:
        seed: of the draw, and of the robot itself.
        extent: "camera-and-wear" varies camera pose and gripper wear only; "everything" also
            light, colours, friction, mass, latency and actuator gain.
    """
    random = np.random.default_rng([seed, 7919])
    nominal = CameraPose()

    def about(centre: tuple[float, float, float], spread_m: float) -> list[float]:
        return [float(value) for value in random.uniform(-spread_m, spread_m, 3) + centre]

    options: dict[str, Any] = {
        "seed": seed,
        "camera": {
            "position_m": about(nominal.position_m, POSITION_SPREAD_M),
            "look_at_m": about(nominal.look_at_m, LOOK_AT_SPREAD_M),
            "vertical_fov_deg": float(random.uniform(*FIELD_OF_VIEW_DEG)),
        },
        "gripper_wear": float(random.uniform(0.0, 1.0)),
        "opening_drift_m": float(random.uniform(-0.0004, 0.0004)),
    }
    if extent == "everything":
        azimuth = random.uniform(-np.pi, np.pi)
        slope = random.uniform(0.45, 0.8)
        options |= {
            "light": {
                "position_m": [
                    float(1.5 * slope * np.cos(azimuth)),
                    float(1.5 * slope * np.sin(azimuth)),
                    1.5,
                ],
                "strength": float(random.uniform(0.45, 0.75)),
                "ambient": float(random.uniform(0.28, 0.5)),
            },
            "colour_jitter": float(random.uniform(0.0, 0.3)),
            "image_noise": float(random.uniform(0.5, 2.5)),
            "friction_scale": float(random.uniform(0.85, 1.15)),
            "mass_scale": float(random.uniform(0.8, 1.25)),
            "actuator_gain": float(random.uniform(0.85, 1.15)),
            "latency_s": float(random.uniform(0.0, 0.03)),
        }
    return options


def true_hand_eye_map(options: Mapping[str, Any], *, aspect: float = 1.0) -> HandEyeMap:
    """Return the exact map from gripper poses to the simulated camera's picture.

    Args:
        options: of a simulated robot, as in ``robot.toml``.
        aspect: width of the picture divided by its height.

    Raises:
        ConfigurationError: an option is unknown or out of range.
    """
    camera = parse_options(options).camera
    return pinhole_map(
        position_m=camera.position_m,
        look_at_m=camera.look_at_m,
        vertical_fov_deg=camera.vertical_fov_deg,
        aspect=aspect,
    )
