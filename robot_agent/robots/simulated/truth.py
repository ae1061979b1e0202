"""What the simulator knows and no robot could: which object is held."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from protocol.episode import ReferenceOutcome
from robot_agent.robots.simulated.scene import Scene

RISE_M = 0.02
"""An object counts as lifted when its centre rose by this much since the gripper closed."""


def nearest_object(scene: Scene, point: NDArray[np.float64]) -> int:
    """Return the index of the object whose surface boxes are nearest to ``point`` (float64[3])."""
    model, data = scene.model, scene.data
    rotation = data.geom_xmat.reshape(-1, 3, 3)
    local = np.einsum("gji,gj->gi", rotation, point - data.geom_xpos) - model.geom_aabb[:, :3]
    outside = np.maximum(np.abs(local) - model.geom_aabb[:, 3:], 0.0)
    distance = np.linalg.norm(outside, axis=1)
    per_object = [distance[model.geom_bodyid == body].min() for body in scene.object_bodies]
    return int(np.argmin(per_object))


def touched_objects(scene: Scene) -> NDArray[np.bool_]:
    """Return bool[N]: which objects does a finger touch?"""
    pairs = scene.data.contact.geom
    owners = scene.model.geom_bodyid[pairs]
    left, right = (_bodies_touching(owners, pairs, geom) for geom in scene.finger_geoms)
    return np.isin(scene.object_bodies, list(left | right))


def grasp_truth(
    scene: Scene,
    heights_at_close: NDArray[np.float64],
    nearest: int | None,
    point: NDArray[np.float64],
) -> ReferenceOutcome:
    """Say whether something hangs between the fingers, free of floor and walls.

    That may be two objects squeezed together, each touched by one finger only.

    Args:
        scene: the scene after the lift.
        heights_at_close: float64[N], heights of the objects when the gripper last closed.
        nearest: index of the object nearest to the fingers at that moment, None if they never
            closed.
        point: float64[3], midway between the finger tips now.
    """
    held = _held_objects(scene, heights_at_close)
    index = nearest if nearest is not None else nearest_object(scene, point)
    if held and index not in held:
        index = held[0]
    return ReferenceOutcome(success=bool(held), object_kind=scene.objects[index].kind.name)


def _held_objects(scene: Scene, heights_at_close: NDArray[np.float64]) -> list[int]:
    """Return the objects that a finger touches and that hang free; none unless both fingers do.

    By the contacts of the last step's beginning or by those of its end: a contact of two edges may
    be missing for one step while the grip holds.
    """
    before = _held_by_contacts(scene, heights_at_close)
    mujoco.mj_forward(scene.model, scene.data)
    return _held_by_contacts(scene, heights_at_close) or before


def _held_by_contacts(scene: Scene, heights_at_close: NDArray[np.float64]) -> list[int]:
    pairs = scene.data.contact.geom
    owners = scene.model.geom_bodyid[pairs]
    grounded = _bodies_touching_world(owners)
    risen = scene.data.xipos[scene.object_bodies, 2] - heights_at_close > RISE_M
    lifted = {
        int(body)
        for body, has_risen in zip(scene.object_bodies, risen, strict=True)
        if has_risen and body not in grounded
    }
    left, right = (_bodies_touching(owners, pairs, geom) & lifted for geom in scene.finger_geoms)
    held = left | right if left and right else set()
    return [index for index, body in enumerate(scene.object_bodies) if body in held]


def _bodies_touching(owners: NDArray[np.int32], pairs: NDArray[np.int32], geom: int) -> set[int]:
    return {int(body) for column in (0, 1) for body in owners[pairs[:, column] == geom, 1 - column]}


def _bodies_touching_world(owners: NDArray[np.int32]) -> set[int]:
    return {int(body) for column in (0, 1) for body in owners[owners[:, column] == 0, 1 - column]}
