"""Pictures of a scene by casting one ray per pixel: needs no graphics library at all.

Bin and table never move, so their layer of the picture is made once; a frame casts only the rays
that may meet the hand or an object, and only the shadow rays that may be cut by them.
"""

# N rays, one per pixel, row by row; K rays that a cast needs; B bundles of rays; G moving geoms

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from protocol.episode import ImageArray
from robot_agent.robots.simulated.objects import MOVING_GROUP, STILL_GROUP
from robot_agent.robots.simulated.options import Light
from robot_agent.robots.simulated.scene import CAMERA, Scene

_FARTHEST_M = 10.0
_SHADOW_TOLERANCE_M = 0.002
_BUNDLE_PX = 4
_MOVING = np.eye(6, dtype=np.uint8)[MOVING_GROUP]
_STILL = np.eye(6, dtype=np.uint8)[STILL_GROUP]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hits:
    """Where K rays ended."""

    geoms: NDArray[np.int32]
    """int32[K], -1 where the ray met nothing."""
    distances: NDArray[np.float64]
    """float64[K], metres, -1 where the ray met nothing."""
    normals: NDArray[np.float64]
    """float64[K, 3]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rays:
    """N rays from one point, in bundles of neighbours."""

    origin: NDArray[np.float64]
    """float64[3]."""
    directions: NDArray[np.float64]
    """float64[N, 3], unit vectors."""
    bundles: NDArray[np.intp]
    """int[N], which bundle each ray belongs to."""
    axes: NDArray[np.float64]
    """float64[B, 3], unit vectors."""
    cosines: NDArray[np.float64]
    """float64[B], of the angle between a bundle's axis and its outermost ray."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Background:
    """Bin and table as one camera sees them, without hand and objects."""

    eye_rays: _Rays
    """From the camera through the pixels."""
    lamp_rays: _Rays
    """From the lamp to what the pixels show."""
    distances: NDArray[np.float64]
    """float64[N], infinite where there is nothing."""
    lit: NDArray[np.float32]
    """float32[N, 3], levels with the lamp."""
    shaded: NDArray[np.float32]
    """float32[N, 3], levels where the lamp is cut off."""
    lamp_distances: NDArray[np.float64]
    """float64[N]; 0 where the lamp does not reach anyway."""


class RayRenderer:
    """Lambert shading with shadows from one lamp, for one robot's camera."""

    def __init__(self, width_px: int, height_px: int, light: Light) -> None:
        self._size = (height_px, width_px)
        self._light = light
        self._lamp = np.array(light.position_m, np.float64)
        self._background: _Background | None = None

    def render(self, scene: Scene) -> ImageArray:
        """Return uint8[H, W, 3], RGB, of the scene as it is now."""
        if self._background is None:
            self._background = self._see_background(scene)
        background = self._background
        levels = background.lit.copy()
        seen, hits = _cast_at_moving(scene, background.eye_rays)
        nearer = (hits.geoms >= 0) & (hits.distances < background.distances[seen])
        self._shade_background(scene, background, levels)
        self._paint(scene, background.eye_rays, levels, seen[nearer], _pick(hits, nearer))
        return np.asarray(levels + np.float32(0.5), np.uint8).reshape(*self._size, 3)

    def close(self) -> None:
        """Nothing is held outside this process's memory."""

    def _see_background(self, scene: Scene) -> _Background:
        directions = _pixel_rays(scene, *self._size)
        eye = _eye(scene)
        hits = _cast(scene, eye, directions, _STILL)
        missed = hits.geoms < 0
        points = eye + hits.distances[:, None] * directions
        lamp_rays, lamp_distances, facing = self._from_lamp(points, hits.normals)
        shadows = _cast(scene, self._lamp, lamp_rays, _STILL).distances
        reached = (facing > 0) & (shadows > lamp_distances - _SHADOW_TOLERANCE_M) & ~missed
        colours = np.where(missed[:, None], 0.0, scene.model.geom_rgba[hits.geoms, :3])
        return _Background(
            eye_rays=_bundled(eye, directions, *self._size),
            lamp_rays=_bundled(self._lamp, lamp_rays, *self._size),
            distances=np.where(missed, np.inf, hits.distances),
            lit=self._levels(colours, np.where(reached, facing, 0.0)),
            shaded=self._levels(colours, np.zeros(len(colours))),
            lamp_distances=np.where(reached, lamp_distances, 0.0),
        )

    def _shade_background(
        self, scene: Scene, background: _Background, levels: NDArray[np.float32]
    ) -> None:
        """Darken the bin where hand or objects stand before the lamp."""
        if self._light.strength == 0:
            return
        seen, hits = _cast_at_moving(scene, background.lamp_rays)
        limit = background.lamp_distances[seen] - _SHADOW_TOLERANCE_M
        cut = seen[(hits.distances >= 0) & (hits.distances < limit)]
        levels[cut] = background.shaded[cut]

    def _paint(
        self,
        scene: Scene,
        eye_rays: _Rays,
        levels: NDArray[np.float32],
        pixels: NDArray[np.intp],
        hits: _Hits,
    ) -> None:
        """Draw hand and objects over the bin.

        Args:
            scene: as it is now.
            eye_rays: through all pixels.
            levels: float32[N, 3], changed in place.
            pixels: int[K], where something that moves is seen.
            hits: of these K rays.
        """
        if len(pixels) == 0:
            return
        points = eye_rays.origin + hits.distances[:, None] * eye_rays.directions[pixels]
        lamp_rays, lamp_distances, facing = self._from_lamp(points, hits.normals)
        if self._light.strength > 0:
            shadows = _cast(scene, self._lamp, lamp_rays, _STILL | _MOVING).distances
            facing[shadows < lamp_distances - _SHADOW_TOLERANCE_M] = 0.0
        colours = scene.model.geom_rgba[hits.geoms, :3]
        levels[pixels] = self._levels(colours, np.maximum(facing, 0.0))

    def _from_lamp(
        self, points: NDArray[np.float64], normals: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return rays float64[K, 3] from the lamp to the points, their lengths float64[K], and the
        cosines float64[K] under which they arrive.
        """
        rays = points - self._lamp
        distances = np.sqrt(np.einsum("ki,ki->k", rays, rays))
        rays /= distances[:, None]
        return rays, distances, -np.einsum("ki,ki->k", rays, normals)

    def _levels(
        self, colours: NDArray[np.float64], facing: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        brightness = self._light.ambient + self._light.strength * facing
        return np.minimum(colours * brightness[:, None] * 255.0, 255.0).astype(np.float32)


def _eye(scene: Scene) -> NDArray[np.float64]:
    return np.asarray(scene.data.cam_xpos[scene.model.camera(CAMERA).id], np.float64)


def _pixel_rays(scene: Scene, height_px: int, width_px: int) -> NDArray[np.float64]:
    """Return float64[N, 3]: unit vectors from the camera through the pixels' centres."""
    camera = scene.model.camera(CAMERA).id
    half = np.tan(np.deg2rad(scene.model.cam_fovy[camera]) / 2)
    up = (1 - (2 * np.arange(height_px) + 1) / height_px) * half
    right = ((2 * np.arange(width_px) + 1) / width_px - 1) * half * width_px / height_px
    grid = np.empty((height_px, width_px, 3))
    grid[..., 0], grid[..., 1], grid[..., 2] = right[None], up[:, None], -1.0
    grid /= np.linalg.norm(grid, axis=2, keepdims=True)
    axes = scene.data.cam_xmat[camera].reshape(3, 3)
    return np.ascontiguousarray(grid.reshape(-1, 3) @ axes.T)


def _bundled(
    origin: NDArray[np.float64], directions: NDArray[np.float64], height_px: int, width_px: int
) -> _Rays:
    """Gather the rays of each square of pixels into a bundle."""
    rows, columns = np.divmod(np.arange(height_px * width_px), width_px)
    across = -(-width_px // _BUNDLE_PX)
    bundles = rows // _BUNDLE_PX * across + columns // _BUNDLE_PX
    axes = np.zeros((int(bundles.max()) + 1, 3))
    np.add.at(axes, bundles, directions)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    cosines = np.ones(len(axes))
    np.minimum.at(cosines, bundles, np.einsum("ni,ni->n", directions, axes[bundles]))
    return _Rays(origin=origin, directions=directions, bundles=bundles, axes=axes, cosines=cosines)


def _cast_at_moving(scene: Scene, rays: _Rays) -> tuple[NDArray[np.intp], _Hits]:
    """Cast those bundles of rays that touch a bounding sphere of hand or objects.

    Returns:
        Indices int[K] of the rays that were cast, and their hits.
    """
    towards = np.flatnonzero(_may_meet(scene, rays)[rays.bundles])
    return towards, _cast(scene, rays.origin, rays.directions[towards], _MOVING)


def _may_meet(scene: Scene, rays: _Rays) -> NDArray[np.bool_]:
    """Return bool[B]: does the bundle's cone touch the bounding sphere of a moving geom?"""
    model, data = scene.model, scene.data
    moving = model.geom_group == MOVING_GROUP
    to_centre = data.geom_xpos[moving] - rays.origin
    distance = np.linalg.norm(to_centre, axis=1)
    sine = np.minimum(model.geom_rbound[moving] / distance, 1.0)
    cosine = np.sqrt(1.0 - sine**2)
    # They touch where the angle between their axes is at most the sum of their half angles.
    between = np.einsum("bi,gi->bg", rays.axes, to_centre / distance[:, None])
    bundle_sine = np.sqrt(np.maximum(1.0 - rays.cosines**2, 0.0))
    limit = rays.cosines[:, None] * cosine - bundle_sine[:, None] * sine
    return np.asarray((between >= limit).any(axis=1))


def _cast(
    scene: Scene,
    origin: NDArray[np.float64],
    rays: NDArray[np.float64],
    groups: NDArray[np.uint8],
) -> _Hits:
    count = len(rays)
    geoms = np.empty(count, np.int32)
    distances = np.empty(count)
    normals = np.empty(count * 3)
    if count:
        mujoco.mj_multiRay(
            scene.model, scene.data, origin, rays.ravel(), groups, True, -1,
            geoms, distances, normals, count, _FARTHEST_M,
        )  # fmt: skip
    return _Hits(geoms=geoms, distances=distances, normals=normals.reshape(-1, 3))


def _pick(hits: _Hits, chosen: NDArray[np.bool_]) -> _Hits:
    return _Hits(
        geoms=hits.geoms[chosen],
        distances=hits.distances[chosen],
        normals=hits.normals[chosen],
    )
