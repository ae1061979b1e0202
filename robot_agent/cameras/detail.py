"""A camera's picture in more detail than the network sees, for what is measured in it."""

from __future__ import annotations

import dataclasses

from robot_agent.config import CameraConfig

DETAIL_PX = 512
"""The shorter side of a picture in which a board is looked for and sharpness is measured."""


def detailed(camera: CameraConfig) -> CameraConfig:
    """Return the same camera with pictures large enough to find markers in, of the same view."""
    finer = max(1, DETAIL_PX // min(camera.width_px, camera.height_px))
    return dataclasses.replace(
        camera, width_px=camera.width_px * finer, height_px=camera.height_px * finer
    )
