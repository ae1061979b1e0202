"""One simulated scene: table, bin, objects and hand, as a compiled MuJoCo model.

The bin's floor is the plane z = 0; x runs along its 25 cm, y along its 19 cm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from protocol.errors import RobotError
from robot_agent.robots.simulated.hand import AXES, FINGERS, MAX_OPENING_M, add_hand
from robot_agent.robots.simulated.objects import (
    COLLISION_ONLY_GROUP,
    STILL_GROUP,
    BinObject,
    add_geoms,
    draw_objects,
)
from robot_agent.robots.simulated.options import SimulationOptions

TIMESTEP_S = 0.004
BIN_HALF_M = (0.125, 0.095)
"""Half the inner length and width of the bin."""
WALL_HEIGHT_M = 0.035
WALL_SLOPE = math.radians(15.0)
"""The walls lean outwards, as those of most bins do: a finger that meets one slides inwards."""
WALL_HALF_THICKNESS_M = 0.0125
"""Too thick to be taken between the fingers from any pose of the workspace."""
WORKSPACE_M = ((-0.10, 0.10), (-0.07, 0.07), (0.001, 0.16))
"""Sensible limits of commanded poses: x, y and z of the point between the finger tips."""
FRICTION = 0.8
FINGER_FRICTION = 1.4 * FRICTION
WORN_FRICTION_LOSS = 0.4
"""Share of the pads' friction that is gone when they are fully worn."""
CONTACT_MARGIN_M = 0.001
"""Of each of two surfaces: contact begins when their margins meet."""
CAMERA = "camera"
LAMP = "lamp"

_SETTLE_BLOCK = 10
_SETTLE_LIMIT_S = 1.2
_TRIES = 8


@dataclass(kw_only=True, slots=True)
class Scene:
    """A compiled scene and where its parts are in MuJoCo's arrays."""

    model: mujoco.MjModel
    data: mujoco.MjData
    objects: tuple[BinObject, ...]
    object_bodies: NDArray[np.intp]
    """Body of each object."""
    object_trees: NDArray[np.intp]
    """Kinematic tree of each object."""
    hand_qpos: NDArray[np.intp]
    """Addresses of x, y, z and yaw in qpos; the same in qvel, the hand being the first tree."""
    finger_qpos: NDArray[np.intp]
    finger_geoms: NDArray[np.intp]
    fault: str = ""
    """Why MuJoCo gave the scene up, in its words; "" while it has not."""

    def is_at_rest(self) -> bool:
        """True when every object sleeps."""
        return not self.data.tree_awake[self.object_trees].any()

    def hand_position(self) -> NDArray[np.float64]:
        """Return float64[4]: the hand's x, y, z (metres) and yaw (radians, also beyond a turn)."""
        return np.asarray(self.data.qpos[self.hand_qpos], np.float64)

    def opening_m(self) -> float:
        """Return the distance between the finger tips, exactly."""
        return max(0.0, float(self.data.qpos[self.finger_qpos].sum()))

    def push_jaw(self, force_n: float) -> None:
        """From now on push each finger with ``force_n``; positive opens."""
        self.data.ctrl[4:6] = force_n

    def advance(self, steps: int) -> None:
        """Let simulated time pass; it stands still once MuJoCo has given the scene up.

        MuJoCo does so where a contact wakes an object in a way that it had not foreseen: once in
        some ten thousand attempts.
        """
        if self.fault:
            return
        try:
            mujoco.mj_step(self.model, self.data, nstep=steps)
        except mujoco.FatalError as error:
            self.fault = str(error)

    def is_stable(self) -> bool:
        """False once MuJoCo gave up, or had to reset positions, velocities or accelerations."""
        return not self.fault and not any(
            self.data.warning[kind].number
            for kind in (
                mujoco.mjtWarning.mjWARN_BADQPOS,
                mujoco.mjtWarning.mjWARN_BADQVEL,
                mujoco.mjtWarning.mjWARN_BADQACC,
            )
        )

    def objects_outside(self) -> int:
        """Count objects whose centre of mass is not within the bin's walls."""
        centres = self.data.xipos[self.object_bodies]
        outside = (np.abs(centres[:, :2]) > BIN_HALF_M).any(axis=1)
        return int(np.count_nonzero(outside | (centres[:, 2] < -0.005)))

    def keep_awake(self, chosen: NDArray[np.bool_]) -> None:
        """Forbid the chosen objects, bool[N], to sleep.

        MuJoCo lets an object sleep that has not moved for a while, also in mid-air at the very
        step in which the fingers let go of it.
        """
        trees = self.object_trees[chosen]
        self.model.tree_sleep_policy[trees] = mujoco.mjtSleepPolicy.mjSLEEP_NEVER

    def settle(self) -> None:
        """Let time pass until every object rests and sleeps, at most about a second."""
        policy = mujoco.mjtSleepPolicy.mjSLEEP_AUTO_ALLOWED
        self.model.tree_sleep_policy[self.object_trees] = policy
        for _ in range(math.ceil(_SETTLE_LIMIT_S / TIMESTEP_S / _SETTLE_BLOCK)):
            if self.is_at_rest():
                break
            self.advance(_SETTLE_BLOCK)


def build_scene(
    options: SimulationOptions,
    random: np.random.Generator,
    hand_position: NDArray[np.float64],
) -> Scene:
    """Fill a bin with new objects and let them settle.

    Args:
        options: of the robot.
        random: where objects, places and colours are drawn from.
        hand_position: float64[4], x, y, z (metres) and yaw (radians), where the hand waits.

    Raises:
        RobotError: no filling settled inside the bin.
    """
    for _ in range(_TRIES):
        scene = _build_once(options, random, hand_position)
        scene.settle()
        if scene.is_stable() and scene.objects_outside() == 0:
            return scene
    raise RobotError(f"simulated bin: no filling settled inside the walls in {_TRIES} tries")


def _build_once(
    options: SimulationOptions,
    random: np.random.Generator,
    hand_position: NDArray[np.float64],
) -> Scene:
    objects = draw_objects(
        random, held_out=options.objects == "held-out", count=options.object_count
    )
    # A robot keeps its bin and its gripper: their colours outlast the scene.
    colours = _draw_colours(np.random.default_rng([options.seed, 3]), options.colour_jitter)
    spec = mujoco.MjSpec()
    _set_physics(spec)
    _add_bin(spec, options, colours)
    _add_view(spec, options)
    pads = 1.0 - WORN_FRICTION_LOSS * options.gripper_wear
    add_hand(
        spec,
        finger_friction=FINGER_FRICTION * options.friction_scale * pads,
        gain=options.actuator_gain,
        colours=colours,
    )
    places = _draw_places(random, objects)
    for index, (item, place) in enumerate(zip(objects, places, strict=True)):
        _add_object(spec, f"object_{index}", item, place, options)
    model = spec.compile()
    data = mujoco.MjData(model)
    _place_hand(model, data, hand_position)
    bodies = np.array([model.body(f"object_{index}").id for index in range(len(objects))])
    return Scene(
        model=model,
        data=data,
        objects=tuple(objects),
        object_bodies=bodies,
        object_trees=model.body_treeid[bodies].astype(np.intp),
        hand_qpos=np.array([model.joint(name).qposadr[0] for name in AXES]),
        finger_qpos=np.array([model.joint(name).qposadr[0] for name in FINGERS]),
        finger_geoms=np.array([model.geom(name).id for name in FINGERS]),
    )


def _set_physics(spec: mujoco.MjSpec) -> None:
    option = spec.option
    option.timestep = TIMESTEP_S
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    option.impratio = 1.0
    option.iterations = 20
    option.ls_iterations = 20
    option.tolerance = 1e-6
    option.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    option.sleep_tolerance = 8e-2
    spec.default.geom.solref[0] = 0.01
    # Without a margin, crossed handles lose and find their
    # contact points at every step, rattle, and never fall asleep.
    spec.default.geom.margin = CONTACT_MARGIN_M
    spec.default.geom.condim = 3


def _add_bin(
    spec: mujoco.MjSpec, options: SimulationOptions, colours: dict[str, list[float]]
) -> None:
    world = spec.worldbody
    friction = [FRICTION * options.friction_scale, 0.004, 0.0001]
    felt = {"contype": 1, "conaffinity": 0, "friction": friction}
    # Contacts with a plane are far cheaper than with a box, so the floor that is felt is one.
    world.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=[0, 0, -2 * CONTACT_MARGIN_M],
        size=[1, 1, 1],
        group=COLLISION_ONLY_GROUP,
        **felt,
    )
    seen_only = {
        "type": mujoco.mjtGeom.mjGEOM_BOX,
        "contype": 0,
        "conaffinity": 0,
        "group": STILL_GROUP,
    }
    length, width = BIN_HALF_M
    world.add_geom(
        pos=[0, 0, -0.004], size=[length, width, 0.004], rgba=colours["floor"], **seen_only
    )
    world.add_geom(pos=[0, 0, -0.018], size=[3, 3, 0.010], rgba=colours["table"], **seen_only)
    for angle in (0.0, math.pi / 2, math.pi, -math.pi / 2):
        _add_wall(world, angle, colours["wall"], felt)


def _add_wall(world: mujoco.MjsBody, angle: float, rgba: list[float], felt: dict[str, Any]) -> None:
    """Add the wall that stands in direction ``angle`` (radians about z) of the bin's centre."""
    ends = WALL_HEIGHT_M * math.tan(WALL_SLOPE)
    if abs(math.cos(angle)) > 0.5:
        distance, half_span = BIN_HALF_M[0], BIN_HALF_M[1] + ends + 2 * WALL_HALF_THICKNESS_M
    else:
        distance, half_span = BIN_HALF_M[1], BIN_HALF_M[0] + ends
    up = np.array([math.sin(WALL_SLOPE), 0.0, math.cos(WALL_SLOPE)])
    outward = np.array([math.cos(WALL_SLOPE), 0.0, -math.sin(WALL_SLOPE)])
    above, below = WALL_HEIGHT_M / math.cos(WALL_SLOPE), 0.010
    centre = (
        np.array([distance, 0.0, 0.0]) + up * (above - below) / 2 + outward * WALL_HALF_THICKNESS_M
    )
    turn = np.array([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)])
    lean = np.array([math.cos(WALL_SLOPE / 2), 0.0, math.sin(WALL_SLOPE / 2), 0.0])
    position, rotation = np.empty(3), np.empty(4)
    mujoco.mju_rotVecQuat(position, centre, turn)
    mujoco.mju_mulQuat(rotation, turn, lean)
    world.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=position,
        quat=rotation,
        size=[WALL_HALF_THICKNESS_M, half_span, (above + below) / 2],
        rgba=rgba,
        group=STILL_GROUP,
        **felt,
    )


def _add_view(spec: mujoco.MjSpec, options: SimulationOptions) -> None:
    pose, light = options.camera, options.light
    eye = np.asarray(pose.position_m)
    forward = np.asarray(pose.look_at_m) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    # MuJoCo's cameras look along -z with y up.
    axes = np.stack([right, np.cross(right, forward), -forward], axis=1)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, axes.ravel())
    spec.worldbody.add_camera(name=CAMERA, pos=eye, quat=quaternion, fovy=pose.vertical_fov_deg)
    lamp = np.asarray(light.position_m)
    spec.worldbody.add_light(
        name=LAMP,
        pos=lamp,
        dir=-lamp / np.linalg.norm(lamp),
        diffuse=[light.strength] * 3,
        specular=[0, 0, 0],
        ambient=[0, 0, 0],
        cutoff=60,
        exponent=0,
        castshadow=True,
        type=mujoco.mjtLightType.mjLIGHT_SPOT,
    )
    headlight = spec.visual.headlight
    # Not the lamp's own: OpenGL would leave the ambient light out of its shadow.
    headlight.ambient = [light.ambient] * 3
    headlight.diffuse = headlight.specular = [0, 0, 0]


def _add_object(
    spec: mujoco.MjSpec,
    name: str,
    item: BinObject,
    place: NDArray[np.float64],
    options: SimulationOptions,
) -> None:
    x, y, z, yaw = place
    body = spec.worldbody.add_body(
        name=name, pos=[x, y, z], quat=[math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)]
    )
    # A little damping stops round objects from rolling for ever; a little armature keeps the
    # slender ones, whose inertia about their length is tiny, from chattering.
    body.add_joint(type=mujoco.mjtJoint.mjJNT_FREE, damping=[1e-4, 0, 0], armature=2e-6)
    add_geoms(body, item, friction=FRICTION * options.friction_scale, mass_scale=options.mass_scale)


def _draw_places(
    random: np.random.Generator, objects: list[BinObject]
) -> list[NDArray[np.float64]]:
    """Draw x, y, z, yaw for every object: anywhere in the bin, above those it would overlap."""
    places: list[NDArray[np.float64]] = []
    spines: list[tuple[NDArray[np.float64], float]] = []
    tops: list[float] = []
    for item in objects:
        half, width = (
            item.kind.half_length_m * item.scale,
            item.kind.half_width_m * item.scale,
        )
        yaw = random.uniform(-math.pi, math.pi)
        direction = np.array([math.cos(yaw), math.sin(yaw)])
        room = np.asarray(BIN_HALF_M) - np.abs(direction) * half - width - 0.003
        room = np.maximum(room, 0.0)
        centre = random.uniform(-room, room)
        spine = centre + np.linspace(-half, half, 7)[:, None] * direction
        below = 0.0
        for (other, other_width), top in zip(spines, tops, strict=True):
            gap = np.linalg.norm(spine[:, None] - other[None], axis=2).min()
            if gap < width + other_width + 0.004:
                below = max(below, top)
        height = item.kind.half_height_m * item.scale
        z = below + height + 0.002
        places.append(np.array([*centre, z, yaw]))
        spines.append((spine, width))
        tops.append(z + height)
    return places


def _place_hand(
    model: mujoco.MjModel, data: mujoco.MjData, hand_position: NDArray[np.float64]
) -> None:
    for name, value in zip(AXES, hand_position, strict=True):
        data.joint(name).qpos[0] = value
        data.actuator(name).ctrl[0] = value
    for name in FINGERS:
        data.joint(name).qpos[0] = MAX_OPENING_M / 2
    mujoco.mj_forward(model, data)


_NOMINAL_COLOURS = {
    "floor": (0.46, 0.36, 0.28),
    "wall": (0.27, 0.29, 0.33),
    "table": (0.62, 0.65, 0.67),
    "palm": (0.26, 0.27, 0.31),
    "finger": (0.08, 0.08, 0.10),
    "arm": (0.62, 0.40, 0.12),
}


def _draw_colours(random: np.random.Generator, jitter: float) -> dict[str, list[float]]:
    return {
        name: [*((1 - jitter) * np.array(nominal) + jitter * random.uniform(0.05, 0.95, 3)), 1.0]
        for name, nominal in _NOMINAL_COLOURS.items()
    }
