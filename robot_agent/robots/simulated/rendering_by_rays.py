"""Pictures of a scene by casting one ray per pixel: needs no graphics library at all."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from protocol.episode import ImageArray
from robot_agent.robots.simulated.options import Light
from robot_agent.robots.simulated.scene import CAMERA, VISIBLE_GROUPS, Scene

_FARTHEST_M = 10.0
_SHADOW_TOLERANCE_M = 0.002


class RayRenderer:
    """Lambert shading with shadows from one lamp."""

    def __init__(self, width_px: int, height_px: int, light: Light) -> None:
        self._light = light
        self._lamp = np.array(light.position_m, np.float64)
        self._size = (height_px, width_px)
        rays = width_px * height_px
        self._geoms = np.empty(rays, np.int32)
        self._distances = np.empty(rays, np.float64)
        self._normals = np.empty(rays * 3, np.float64)
        self._shadow_geoms = np.empty(rays, np.int32)
        self._shadow_distances = np.empty(rays, np.float64)

    def render(self, scene: Scene) -> ImageArray:
        """Return uint8[H, W, 3], RGB, of the scene as it is now."""
        model, data = scene.model, scene.data
        camera = model.camera(CAMERA).id
        eye = data.cam_xpos[camera]
        directions = self._directions(model, data, camera)
        mujoco.mj_multiRay(
            model, data, eye, directions.ravel(), VISIBLE_GROUPS, True, -1,
            self._geoms, self._distances, self._normals, len(directions), _FARTHEST_M,
        )  # fmt: skip
        hit = self._geoms >= 0
        colours = np.where(hit[:, None], model.geom_rgba[self._geoms, :3], 0.0).astype(np.float32)
        points = eye + self._distances[:, None] * directions
        brightness = self._brightness(model, data, points, hit)
        image = np.minimum(colours * brightness[:, None], 1.0) * 255.0 + 0.5
        return np.asarray(image, np.uint8).reshape(*self._size, 3)

    def _directions(
        self, model: mujoco.MjModel, data: mujoco.MjData, camera: int
    ) -> NDArray[np.float64]:
        """Return float64[H * W, 3]: unit vectors through the pixels' centres, row by row."""
        height, width = self._size
        half = np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
        up = (1 - (2 * np.arange(height) + 1) / height) * half
        right = ((2 * np.arange(width) + 1) / width - 1) * half * width / height
        grid = np.empty((height, width, 3))
        grid[..., 0], grid[..., 1], grid[..., 2] = right[None], up[:, None], -1.0
        grid /= np.linalg.norm(grid, axis=2, keepdims=True)
        return np.ascontiguousarray(grid.reshape(-1, 3) @ data.cam_xmat[camera].reshape(3, 3).T)

    def _brightness(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        points: NDArray[np.float64],
        hit: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """Return float32[N]: ambient light plus what the lamp adds where it reaches."""
        brightness = np.full(len(points), self._light.ambient, np.float32)
        to_point = points - self._lamp
        distance = np.sqrt(np.einsum("ni,ni->n", to_point, to_point))
        to_point /= distance[:, None]
        facing = -np.einsum("ni,ni->n", to_point, self._normals.reshape(-1, 3))
        turned = np.flatnonzero(hit & (facing > 0))
        count = len(turned)
        if self._light.strength == 0 or count == 0:
            return brightness
        shadow_distances = self._shadow_distances[:count]
        mujoco.mj_multiRay(
            model, data, self._lamp, np.ascontiguousarray(to_point[turned]).ravel(),
            VISIBLE_GROUPS, True, -1, self._shadow_geoms[:count], shadow_distances, None,
            count, _FARTHEST_M,
        )  # fmt: skip
        lit = shadow_distances > distance[turned] - _SHADOW_TOLERANCE_M
        reached = turned[lit]
        brightness[reached] += (self._light.strength * facing[reached]).astype(np.float32)
        return brightness

    def close(self) -> None:
        """Nothing is held outside this process's memory."""
