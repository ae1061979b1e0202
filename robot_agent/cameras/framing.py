"""From what a camera gives to what the network sees: a region of it, made smaller."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from protocol.configuration import NonNegativeInt, PositiveInt
from protocol.episode import ImageArray
from protocol.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A part of the camera's picture, in its pixels."""

    left_px: NonNegativeInt
    top_px: NonNegativeInt
    width_px: PositiveInt
    height_px: PositiveInt

    @classmethod
    def largest(cls, size_px: tuple[int, int], width_px: int, height_px: int) -> Region:
        """Return the largest region of aspect width_px : height_px, in the middle.

        Args:
            size_px: width and height of the camera's picture.
            width_px: of the picture wanted.
            height_px: of the picture wanted.
        """
        full_width, full_height = size_px
        scale = min(full_width / width_px, full_height / height_px)
        width, height = round(width_px * scale), round(height_px * scale)
        return cls(
            left_px=(full_width - width) // 2,
            top_px=(full_height - height) // 2,
            width_px=width,
            height_px=height,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Framing:
    """Which part of a camera's picture is shown, and how large."""

    region: Region
    width_px: int
    height_px: int

    @classmethod
    def of(
        cls, region: Region | None, size_px: tuple[int, int], width_px: int, height_px: int
    ) -> Framing:
        """Return the framing of a camera of ``size_px`` (width, height); no region: the largest.

        Raises:
            ConfigurationError: the region is not inside the picture, or of another aspect than
                the picture wanted, which would distort it.
        """
        if region is None:
            region = Region.largest(size_px, width_px, height_px)
        right, bottom = region.left_px + region.width_px, region.top_px + region.height_px
        if right > size_px[0] or bottom > size_px[1]:
            raise ConfigurationError(
                f"camera region: reaches to {right}x{bottom} px, but the camera's pictures have "
                f"{size_px[0]}x{size_px[1]} px"
            )
        # The nearest whole number of pixels may be half a pixel off.
        if abs(region.width_px * height_px - region.height_px * width_px) > max(
            width_px, height_px
        ):
            raise ConfigurationError(
                f"camera region: {region.width_px}x{region.height_px} px has another aspect than "
                f"the {width_px}x{height_px} px of camera.width_px and camera.height_px"
            )
        return cls(region=region, width_px=width_px, height_px=height_px)

    def apply(self, image_bgr: ImageArray) -> ImageArray:
        """Return uint8[height_px, width_px, 3], RGB, of a picture uint8[H, W, 3] in BGR.

        Smaller pictures are averages over areas, so that no thin object falls between pixels.
        """
        region = self.region
        part = image_bgr[
            region.top_px : region.top_px + region.height_px,
            region.left_px : region.left_px + region.width_px,
        ]
        is_smaller = self.width_px <= region.width_px
        method = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
        fitted = cv2.resize(part, (self.width_px, self.height_px), interpolation=method)
        return np.ascontiguousarray(fitted[:, :, ::-1], np.uint8)
