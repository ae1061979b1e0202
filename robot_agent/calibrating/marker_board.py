"""MarkerBoard: a printed pattern whose points a camera finds to a fraction of a pixel.

A ChArUco board: chessboard corners are sharp, and the markers in its white squares tell which
corner is which, also where part of the board is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from protocol.episode import ImageArray
from protocol.errors import ConfigurationError

DICTIONARY = cv2.aruco.DICT_4X4_50
MARKER_SHARE = 0.75
"""Side of a marker as a share of its square's."""
FEWEST_SQUARES, MOST_SQUARES = 3, 12


@dataclass(frozen=True, kw_only=True)
class MarkerBoard:
    """A chessboard of ``columns`` x ``rows`` squares with markers in the white ones.

    The board's frame: origin in its middle, x to the right and y upwards on the print, z out of
    the paper.
    """

    columns: int = 5
    rows: int = 4
    square_m: float = 0.015
    """Side of a square as it came out of the printer, metres."""

    def __post_init__(self) -> None:
        for name in ("columns", "rows"):
            count = getattr(self, name)
            if not FEWEST_SQUARES <= count <= MOST_SQUARES:
                raise ConfigurationError(
                    f"marker board: {name} = {count}; {FEWEST_SQUARES} to {MOST_SQUARES} squares"
                )
        if not 0.002 <= self.square_m <= 0.2:
            raise ConfigurationError(
                f"marker board: squares of {self.square_m * 1e3:g} mm; 2 to 200 mm"
            )

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of the pattern, metres."""
        return self.columns * self.square_m, self.rows * self.square_m

    @cached_property
    def corners_m(self) -> NDArray[np.float64]:
        """float64[K, 3]: the inner chessboard corners in the board's frame, metres."""
        found = np.asarray(self._pattern.getChessboardCorners(), np.float64)
        width, height = self.size_m
        # OpenCV counts from the upper left, y downwards.
        return np.column_stack(
            [found[:, 0] - width / 2, height / 2 - found[:, 1], np.zeros(len(found))]
        )

    def drawing(self, square_px: int) -> NDArray[np.uint8]:
        """Return the pattern without a margin, uint8[rows x square_px, columns x square_px]."""
        size = (self.columns * square_px, self.rows * square_px)
        return np.asarray(self._pattern.generateImage(size, marginSize=0), np.uint8)

    def find(self, image: ImageArray) -> Sighting:
        """Return the corners that a picture uint8[H, W, 3], RGB, shows; perhaps none."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        corners, ids, _, _ = self._detector.detectBoard(grey)
        if ids is None or corners is None:
            return Sighting(ids=np.zeros(0, np.int64), uv=np.zeros((0, 2)))
        height, width = grey.shape
        # A pixel's centre is half a pixel inside its edge; see HandEyeMap for u and v.
        pixels = np.asarray(corners, np.float64).reshape(-1, 2)
        uv = (pixels + 0.5) * 2 / np.array([width, height]) - 1.0
        return Sighting(ids=np.asarray(ids, np.int64).ravel(), uv=uv)

    @cached_property
    def _pattern(self) -> cv2.aruco.CharucoBoard:
        return cv2.aruco.CharucoBoard(
            (self.columns, self.rows),
            self.square_m,
            self.square_m * MARKER_SHARE,
            cv2.aruco.getPredefinedDictionary(DICTIONARY),
        )

    @cached_property
    def _detector(self) -> cv2.aruco.CharucoDetector:
        return cv2.aruco.CharucoDetector(self._pattern)


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """The corners of a board that one picture shows."""

    ids: NDArray[np.int64]
    """int64[n]: which of ``MarkerBoard.corners_m``."""
    uv: NDArray[np.float64]
    """float64[n, 2]: where, in [-1, 1] across the picture (see protocol.hand_eye)."""

    def __len__(self) -> int:
        return len(self.ids)
