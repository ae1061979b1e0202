"""The simulated hand: a gantry with x, y, z and yaw, and a parallel jaw.

Gripper frame: origin midway between the finger tips, z up along the hand, the fingers close
along y. All lengths in metres.
"""

from __future__ import annotations

import mujoco
import numpy as np

from robot_agent.robots.base import GripperModel

AXES = ("hand_x", "hand_y", "hand_z", "hand_yaw")
FINGERS = ("finger_left", "finger_right")

MAX_OPENING_M = 0.080
GRIP_FORCE_N = 12.0
"""Of each finger."""
FINGER_DAMPING = 50.0
"""Of each finger, N s/m; with the grip force it sets how fast the jaw moves."""
FINGER_ARMATURE_KG = 0.12
"""What the jaw's motor and gears weigh at each finger; without it a grip on a light object
bounces."""
LATERAL_LIMIT_N = 15.0
DOWN_LIMIT_N = 10.0
UP_LIMIT_N = 20.0
TURN_LIMIT_NM = 1.0
FORCE_LIMITS = np.array(
    [
        [-LATERAL_LIMIT_N, LATERAL_LIMIT_N],
        [-LATERAL_LIMIT_N, LATERAL_LIMIT_N],
        [-DOWN_LIMIT_N, UP_LIMIT_N],
        [-TURN_LIMIT_NM, TURN_LIMIT_NM],
    ]
)
"""Of the position control of x, y, z and yaw."""
MASS_KG = 0.5
"""Everything that moves with the hand."""

STIFFNESS = np.array([2400.0, 2400.0, 2400.0, 6.0])
"""Of the position control of x, y, z (N/m) and yaw (N m/rad)."""
DAMPING = np.array([64.0, 64.0, 64.0, 0.18])
"""N s/m, N m s/rad."""

_FINGER_BOX = np.array([[-0.007, 0.0, 0.0], [0.007, 0.007, 0.060]])
_PALM_BOX = np.array([[-0.016, -0.050, 0.060], [0.016, 0.050, 0.084]])
_ARM_BOX = np.array([[-0.012, -0.012, 0.084], [0.012, 0.012, 0.384]])

GRIPPER = GripperModel(
    max_opening_m=MAX_OPENING_M,
    body_boxes=np.stack([_PALM_BOX, _ARM_BOX]),
    finger_box=_FINGER_BOX,
)


def add_hand(
    spec: mujoco.MjSpec,
    *,
    finger_friction: float,
    gain: float,
    colours: dict[str, list[float]],
) -> None:
    """Add hand, fingers and their actuators to the scene.

    Args:
        spec: the scene under construction.
        finger_friction: friction coefficient of the finger pads.
        gain: stiffness of the position control relative to nominal.
        colours: RGBA of "palm", "finger" and "arm".
    """
    hand = spec.worldbody.add_body(name="hand", gravcomp=1.0)
    for name, axis in zip(AXES[:3], np.eye(3), strict=True):
        hand.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
    hand.add_joint(name=AXES[3], type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1], armature=0.0006)
    # Whatever is seen must also be felt: MuJoCo culls rays by bounds of the felt geoms alone.
    _add_box(hand, "palm", _PALM_BOX, colours["palm"], mass=MASS_KG - 0.10)
    _add_box(hand, "arm", _ARM_BOX, colours["arm"], mass=0.04)
    mirrored = _FINGER_BOX * [1.0, -1.0, 1.0]
    for name, side, box in zip(
        FINGERS, (1.0, -1.0), (_FINGER_BOX, np.sort(mirrored, axis=0)), strict=True
    ):
        _add_finger(hand, name, side, box, finger_friction, colours["finger"])
    _add_actuators(spec, gain)
    spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT,
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        name1=FINGERS[1],
        name2=FINGERS[0],
        data=[0.0, 1.0, *([0.0] * 10)],
        solref=[0.01, 1.0],
    )


def _add_finger(
    hand: mujoco.MjsBody,
    name: str,
    side: float,
    box: np.ndarray,
    friction: float,
    rgba: list[float],
) -> None:
    finger = hand.add_body(name=name, gravcomp=1.0)
    finger.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[0.0, side, 0.0],
        range=[0.0, MAX_OPENING_M / 2],
        solref_limit=[0.008, 1.0],
        solimp_limit=[0.98, 0.99, 0.001, 0.5, 2.0],
        limited=mujoco.mjtLimited.mjLIMITED_TRUE,
        damping=[FINGER_DAMPING, 0.0, 0.0],
        armature=FINGER_ARMATURE_KG,
    )
    _add_box(finger, name, box, rgba, mass=0.03, friction=friction, condim=4)


def _add_box(
    body: mujoco.MjsBody,
    name: str,
    box: np.ndarray,
    rgba: list[float],
    *,
    mass: float,
    friction: float = 0.4,
    condim: int = 3,
) -> None:
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=box.mean(axis=0),
        size=(box[1] - box[0]) / 2,
        rgba=rgba,
        mass=mass,
        friction=[friction, 0.006, 0.0001],
        condim=condim,
        contype=0,
        conaffinity=3,
        margin=0.0,
    )


def _add_actuators(spec: mujoco.MjSpec, gain: float) -> None:
    for name, stiffness, damping, limit in zip(
        AXES, STIFFNESS * gain, DAMPING * gain**0.5, FORCE_LIMITS, strict=True
    ):
        actuator = spec.add_actuator(
            name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, forcerange=limit
        )
        actuator.set_to_position(kp=stiffness, kv=damping)
    for name in FINGERS:
        spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT).set_to_motor()
