"""Plausible simulated robots, no two alike, and the truth about their cameras."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from protocol.hand_eye import HandEyeMap, pinhole_map
from robot_agent.robots.simulated.options import CameraPose, Vector, parse_options
from robot_agent.robots.simulated.scene import BIN_HALF_M

POSITION_SPREAD_M = 0.04
"""Largest displacement of the camera along each axis."""
LOOK_AT_SPREAD_M = 0.015
FIELD_OF_VIEW_DEG = (29.0, 34.0)
VIEW_MARGIN = 0.99
"""The corners of the bin's floor must appear within this part of the picture."""


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
    camera = _draw_camera(random)
    options: dict[str, Any] = {
        "seed": seed,
        "camera": {
            "position_m": list(camera.position_m),
            "look_at_m": list(camera.look_at_m),
            "vertical_fov_deg": camera.vertical_fov_deg,
        },
        "gripper_wear": random.uniform(0.0, 1.0),
        "opening_drift_m": random.uniform(-0.0004, 0.0004),
    }
    if extent == "everything":
        options |= {
            "light": _draw_light(random),
            "colour_jitter": random.uniform(0.0, 0.3),
            "image_noise": random.uniform(0.5, 2.5),
            "friction_scale": random.uniform(0.85, 1.15),
            "mass_scale": random.uniform(0.8, 1.25),
            "actuator_gain": random.uniform(0.85, 1.15),
            "latency_s": random.uniform(0.0, 0.03),
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
    return _map_of(parse_options(options).camera, aspect)


def _map_of(camera: CameraPose, aspect: float) -> HandEyeMap:
    return pinhole_map(
        position_m=camera.position_m,
        look_at_m=camera.look_at_m,
        vertical_fov_deg=camera.vertical_fov_deg,
        aspect=aspect,
    )


def _draw_camera(random: np.random.Generator) -> CameraPose:
    """Draw camera poses about the nominal one until the whole floor of the bin is in view."""
    nominal = CameraPose()
    corners = np.array(
        [
            (side * BIN_HALF_M[0], other * BIN_HALF_M[1], 0.0)
            for side, other in itertools.product((-1.0, 1.0), repeat=2)
        ]
    )
    while True:
        camera = CameraPose(
            position_m=_about(random, nominal.position_m, POSITION_SPREAD_M),
            look_at_m=_about(random, nominal.look_at_m, LOOK_AT_SPREAD_M),
            vertical_fov_deg=random.uniform(*FIELD_OF_VIEW_DEG),
        )
        if np.abs(_map_of(camera, 1.0).project(corners)).max() < VIEW_MARGIN:
            return camera


def _about(random: np.random.Generator, centre: Vector, spread_m: float) -> Vector:
    x, y, z = (value + random.uniform(-spread_m, spread_m) for value in centre)
    return (x, y, z)


def _draw_light(random: np.random.Generator) -> dict[str, Any]:
    azimuth = random.uniform(-np.pi, np.pi)
    # Slanting enough that the parked hand's shadow falls beside the bin.
    slope = random.uniform(0.45, 0.8)
    height_m = 1.5
    return {
        "position_m": [
            height_m * slope * float(np.cos(azimuth)),
            height_m * slope * float(np.sin(azimuth)),
            height_m,
        ],
        "strength": random.uniform(0.45, 0.75),
        "ambient": random.uniform(0.28, 0.5),
    }
