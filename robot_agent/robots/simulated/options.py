"""Options of one simulated robot: its camera, its light, its wear and its bin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from protocol.configuration import (
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Seed,
    from_table,
)
from protocol.errors import ConfigurationError
from robot_agent.arms.arm_options import Parking
from robot_agent.arms.arm_places import ARM_PLACES, ArmPlace
from robot_agent.kinematics.arm_model import Mount

Vector = tuple[float, float, float]

MAX_OBJECTS = 12
MAX_LATENCY_S = 0.5

Brightness = Annotated[float, msgspec.Meta(ge=0, le=10)]
Scale = Annotated[float, msgspec.Meta(gt=0, le=100)]
"""Against the nominal robot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraPose:
    """An ideal pinhole camera, base frame, z up in the picture."""

    position_m: Vector = (-0.34, -0.10, 0.46)
    look_at_m: Vector = (0.0, 0.0, 0.028)
    vertical_fov_deg: PositiveFloat = 31.0

    def __post_init__(self) -> None:
        if self.vertical_fov_deg >= 120:
            raise ConfigurationError(f"vertical_fov_deg {self.vertical_fov_deg}: must be below 120")
        if self.position_m[:2] == self.look_at_m[:2]:
            raise ConfigurationError(
                "camera: position_m stands straight above look_at_m; move it aside, "
                "because the picture's upward direction would be undefined"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Light:
    """One lamp that throws shadows, and light from everywhere."""

    position_m: Vector = (-0.55, 0.75, 1.5)
    """Of the lamp, base frame."""
    strength: Brightness = 0.65
    """Share of its colour that a surface facing the lamp adds."""
    ambient: Brightness = 0.38
    """Share of its colour that every surface shows, also in shadow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationOptions:
    """One simulated robot and its bin; the defaults are the nominal robot."""

    seed: Seed = 0
    """Same seed, same objects, same places, same noise."""
    objects: Literal["training", "held-out"] = "training"
    """Held-out objects have scales and one kind of shape that training never sees."""
    object_count: tuple[PositiveInt, PositiveInt] = (6, 8)
    """Fewest and most objects in the bin."""
    attempts_per_scene: PositiveInt = 10
    """The bin is refilled with other objects after this many attempts."""
    camera: CameraPose = CameraPose()
    light: Light = Light()
    colour_jitter: Fraction = 0.0
    """How far bin, table and gripper depart from their nominal colours."""
    image_noise: Annotated[float, msgspec.Meta(ge=0, le=255)] = 1.0
    """Standard deviation of the camera's noise, in levels out of 255."""
    friction_scale: Scale = 1.0
    mass_scale: Scale = 1.0
    actuator_gain: Scale = 1.0
    """Stiffness of the hand's position control, relative to nominal."""
    latency_s: NonNegativeFloat = 0.0
    """Simulated time that passes before each motion begins."""
    gripper_wear: Fraction = 0.0
    """0 is new; at 1 the pads have lost 40 % of their friction and 0.8 mm of their thickness."""
    opening_drift_m: float = 0.0
    """Error of the gripper's zero."""
    opening_noise_m: Annotated[float, msgspec.Meta(ge=0, le=0.01)] = 5e-5
    """Standard deviation of a reading of the opening."""

    arm: str = ""
    """Name of the arm that carries the hand, such as so101 (see docs/kinematics.md), or the path of
    a model; "" for a gantry that reaches everywhere."""
    mount: Mount | None = None
    """Where the arm's foot stands; None for the place in ARM_PLACES."""
    parking: Parking | None = None
    """Where the arm takes the hand out of view; None for the place in ARM_PLACES."""
    servo_lag_s: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    """By which the arm's joints are behind their goals."""

    @property
    def arm_place(self) -> ArmPlace:
        """Where the arm stands and parks; only for a robot that has one."""
        return ArmPlace(
            mount=self.mount or ARM_PLACES[self.arm].mount,
            parking=self.parking or ARM_PLACES[self.arm].parking,
        )

    def __post_init__(self) -> None:
        fewest, most = self.object_count
        if not fewest <= most <= MAX_OBJECTS:
            raise ConfigurationError(
                f"object_count {fewest}, {most}: needs fewest <= most <= {MAX_OBJECTS}"
            )
        if self.latency_s > MAX_LATENCY_S:
            raise ConfigurationError(f"latency_s {self.latency_s}: at most {MAX_LATENCY_S}")
        if self.arm and self.arm not in ARM_PLACES and None in (self.mount, self.parking):
            raise ConfigurationError(
                f"arm {self.arm!r}: expected one of {', '.join(ARM_PLACES)}; another one's model "
                "needs 'mount' and 'parking' beside it"
            )
        if abs(self.opening_drift_m) > 0.002:
            raise ConfigurationError(
                f"opening_drift_m {self.opening_drift_m}: beyond 2 mm a closed gripper could be "
                "taken for a full one"
            )


def parse_options(options: Mapping[str, Any]) -> SimulationOptions:
    """Check the options of a simulated robot.

    Raises:
        ConfigurationError: a key is unknown (the nearest known one is named) or a value is out
            of range.
    """
    return from_table(
        dict(options), SimulationOptions, name="simulated robot options", folder=Path()
    )
