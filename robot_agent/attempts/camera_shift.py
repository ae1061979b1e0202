"""How far the bin has moved in the picture since the hand-eye map was found.

A camera that was bumped makes every prediction wrong by as much. What lies in the bin changes all
the time, so medians of many pictures are compared, by their edges: neither the objects nor the
light count for much in them.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import deque
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from protocol.episode import ImageArray
from protocol.hand_eye import HandEyeMap

logger = logging.getLogger(__name__)

PICTURES = 20
"""Of the bin without the hand, for a median without the objects."""
_EVERY = 5
"""Pictures between two comparisons."""
_LEAST_LIKENESS = 0.3
"""Correlation below which two pictures do not show the same."""
_SEARCH = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
_SMOOTHING_PX = 3


class CameraShift:
    """Compares pictures of the bin with a reference that is kept with the hand-eye map."""

    def __init__(self, folder: Path, calibration: HandEyeMap) -> None:
        """Go on with the reference of this hand-eye map, if there is one.

        Args:
            folder: where the reference picture is kept.
            calibration: found by the robot; another one gets another reference.
        """
        name = hashlib.sha256(calibration.matrix.tobytes()).hexdigest()[:12]
        self._file = folder / f"camera-reference-{name}.png"
        self._reference = _read(self._file)
        self._recent: deque[NDArray[np.uint8]] = deque(maxlen=PICTURES)
        self._until_next = PICTURES
        self.pixels: float | None = None
        """Shift of the whole picture; None before enough pictures came. A picture that has nothing
        in common with the reference counts as shifted by half its height."""

    def add(self, picture: ImageArray) -> None:
        """Take a picture of the bin without the hand, uint8[H, W, 3]."""
        self._recent.append(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8))
        self._until_next -= 1
        if self._until_next:
            return
        self._until_next = _EVERY
        now = np.median(np.stack(self._recent), axis=0).astype(np.uint8)
        if self._reference is None or self._reference.shape != now.shape:
            self._keep(now)
        else:
            self.pixels = shift_px(self._reference, now)

    def _keep(self, reference: NDArray[np.uint8]) -> None:
        self._reference, self.pixels = reference, 0.0
        _, data = cv2.imencode(".png", reference)
        try:
            self._file.write_bytes(data.tobytes())
        except OSError as error:
            logger.warning("reference picture not kept at %s: %s", self._file, error.strerror)


def shift_px(reference: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """Return by how many pixels ``now`` is shifted against ``reference``, both uint8[H, W].

    Enhanced correlation coefficient (Evangelidis, Psarakis 2008), on the strength of the edges.
    """
    farthest: float = reference.shape[0] / 2
    try:
        likeness, motion = cv2.findTransformECC(
            _edges(reference),
            _edges(now),
            np.eye(2, 3, dtype=np.float32),
            cv2.MOTION_TRANSLATION,
            _SEARCH,
            np.full_like(now, 255),
            _SMOOTHING_PX,
        )
    except cv2.error:  # it does not converge
        return farthest
    if likeness < _LEAST_LIKENESS:
        return farthest
    along_x, along_y = np.asarray(motion)[:, 2]
    return min(farthest, math.hypot(float(along_x), float(along_y)))


def _edges(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    along_x = cv2.Sobel(grey, cv2.CV_32F, 1, 0)
    along_y = cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.hypot(along_x, along_y).astype(np.float32)


def _read(file: Path) -> NDArray[np.uint8] | None:
    """Return the picture; None when there is none that can be read."""
    if not file.exists():
        return None
    found = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    return None if found is None else found.astype(np.uint8)
