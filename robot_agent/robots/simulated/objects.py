"""Kinds of objects in the simulated bin, built from primitive shapes.

Every object lies in its own frame as it would on the floor: x along its length, z up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np

MOVING_GROUP, STILL_GROUP, COLLISION_ONLY_GROUP = 0, 1, 3
"""Groups of geoms: hand and objects; bin and table; felt but never seen."""

_SHAPES = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One primitive shape of an object at scale 1, metres."""

    shape: Literal["box", "ellipsoid", "cylinder", "capsule"]
    size: tuple[float, float, float]
    """As MuJoCo has it: half extents, or radius and half length."""
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    metal: bool = False
    """Shines like steel whatever the object's colour."""
    felt: bool = True
    """Collides and has mass."""
    seen: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectKind:
    """A family of objects that differ in scale and colour."""

    name: str
    parts: tuple[Part, ...]
    density: float
    """Of the felt parts, kg/m3."""
    half_length_m: float
    """Half its length on the floor at scale 1."""
    half_width_m: float
    half_height_m: float


_STEEL = 3500.0
_WOOD = 1500.0


def _cutlery(name: str, *head: Part) -> ObjectKind:
    handle = Part(shape="box", size=(0.034, 0.0055, 0.0042), position=(-0.030, 0.0, 0.0))
    return ObjectKind(
        name=name,
        parts=(handle, *head),
        density=_STEEL,
        half_length_m=0.064,
        half_width_m=0.012,
        half_height_m=0.0045,
    )


KNIFE = _cutlery(
    "knife",
    Part(shape="box", size=(0.030, 0.0065, 0.0032), position=(0.033, 0.001, -0.001), metal=True),
)
FORK = _cutlery(
    "fork",
    Part(shape="box", size=(0.030, 0.009, 0.0028), position=(0.033, 0.0, -0.0014), seen=False),
    Part(
        shape="box", size=(0.009, 0.0035, 0.0028), position=(0.011, 0.0, 0.0), metal=True,
        felt=False,
    ),
    Part(
        shape="box", size=(0.008, 0.0095, 0.0028), position=(0.027, 0.0, -0.001), metal=True,
        felt=False,
    ),
    *(
        Part(
            shape="box", size=(0.014, 0.0019, 0.0026), position=(0.048, y, -0.0014), metal=True,
            felt=False,
        )
        for y in (-0.0074, 0.0, 0.0074)
    ),
)  # fmt: skip
SPOON = _cutlery(
    "spoon",
    Part(shape="box", size=(0.012, 0.0035, 0.003), position=(0.014, 0.0, -0.001), metal=True),
    Part(shape="ellipsoid", size=(0.020, 0.0125, 0.005), position=(0.044, 0.0, 0.0), metal=True),
)
BLOCK = ObjectKind(
    name="block",
    parts=(Part(shape="box", size=(0.013, 0.012, 0.012)),),
    density=_WOOD,
    half_length_m=0.018,
    half_width_m=0.018,
    half_height_m=0.012,
)
CYLINDER = ObjectKind(
    name="cylinder",
    parts=(Part(shape="cylinder", size=(0.0125, 0.011, 0.0)),),
    density=_WOOD,
    half_length_m=0.015,
    half_width_m=0.015,
    half_height_m=0.012,
)
CAPSULE = ObjectKind(
    name="capsule",
    # Geoms of two sizes lie along z; scene.py turns the long ones onto their side.
    parts=(Part(shape="capsule", size=(0.010, 0.016, 0.0)),),
    density=_WOOD,
    half_length_m=0.026,
    half_width_m=0.010,
    half_height_m=0.010,
)
EGG = ObjectKind(
    name="egg",
    parts=(Part(shape="ellipsoid", size=(0.019, 0.0145, 0.0145)),),
    density=1100.0,
    half_length_m=0.019,
    half_width_m=0.015,
    half_height_m=0.0145,
)

CUTLERY = (KNIFE, FORK, SPOON)
CLUTTER = (BLOCK, CYLINDER, CAPSULE)
HELD_OUT_KIND = EGG
"""Never in a bin that training sees."""

TRAINING_SCALES = ((0.85, 1.15),)
HELD_OUT_SCALES = ((0.75, 0.85), (1.15, 1.25))

_COLOURS = np.array(
    [
        [0.85, 0.25, 0.15],
        [0.95, 0.55, 0.10],
        [0.90, 0.80, 0.15],
        [0.20, 0.70, 0.25],
        [0.15, 0.70, 0.70],
        [0.15, 0.40, 0.85],
        [0.55, 0.20, 0.65],
        [0.90, 0.90, 0.90],
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BinObject:
    """One object: its kind, its scale and its colours (RGB, 0 to 1)."""

    kind: ObjectKind
    scale: float
    colour: tuple[float, float, float]
    steel: tuple[float, float, float]


def draw_objects(
    random: np.random.Generator, *, held_out: bool, count: tuple[int, int]
) -> list[BinObject]:
    """Draw the content of one bin, at least half of it cutlery."""
    total = int(random.integers(count[0], count[1] + 1))
    cutlery = int(random.integers((total + 1) // 2, max(total - 1, (total + 1) // 2) + 1))
    kinds = [CUTLERY[i] for i in random.integers(len(CUTLERY), size=cutlery)]
    clutter: tuple[ObjectKind, ...] = CLUTTER
    if held_out and total > cutlery:
        kinds.append(HELD_OUT_KIND)
        clutter = (*CLUTTER, HELD_OUT_KIND)
    kinds += [clutter[i] for i in random.integers(len(clutter), size=total - len(kinds))]
    scales = HELD_OUT_SCALES if held_out else TRAINING_SCALES
    return [_draw_object(random, kind, scales) for kind in kinds]


def _draw_object(
    random: np.random.Generator, kind: ObjectKind, scales: tuple[tuple[float, float], ...]
) -> BinObject:
    low, high = scales[int(random.integers(len(scales)))]
    grey = random.uniform(0.66, 0.92)
    steel = np.clip(grey + random.normal(0.0, 0.015, 3), 0.0, 1.0)
    colour = np.clip(_COLOURS[random.integers(len(_COLOURS))] + random.normal(0, 0.05, 3), 0, 1)
    if kind in CUTLERY and random.random() < 0.4:
        colour = steel
    return BinObject(
        kind=kind,
        scale=float(random.uniform(low, high)),
        colour=tuple(colour.tolist()),
        steel=tuple(steel.tolist()),
    )


def add_geoms(body: mujoco.MjsBody, item: BinObject, *, friction: float, mass_scale: float) -> None:
    """Add the shapes of ``item`` to a body of the simulated scene."""
    for part in item.kind.parts:
        geom = body.add_geom(
            type=_SHAPES[part.shape],
            size=[size * item.scale for size in part.size],
            pos=[value * item.scale for value in part.position],
            rgba=[*(item.steel if part.metal else item.colour), 1.0],
            friction=[friction, 0.004, 0.0001],
            density=item.kind.density * mass_scale if part.felt else 0.0,
            contype=2 if part.felt else 0,
            conaffinity=3 if part.felt else 0,
            group=MOVING_GROUP if part.seen else COLLISION_ONLY_GROUP,
        )
        if part.shape == "capsule":
            geom.quat = [0.5**0.5, 0.0, 0.5**0.5, 0.0]
