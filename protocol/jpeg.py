"""JPEG images, whose size is read from their header before anything is decoded."""

from __future__ import annotations

import cv2
import numpy as np

from protocol.episode import ImageArray
from protocol.errors import RejectedEpisodeError

QUALITY = 92

_START = b"\xff\xd8"
_END = b"\xff\xd9"
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive Huffman-coded frames: what cameras and libjpeg write."""
_OTHER_FRAME_MARKERS = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODE_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def encode_jpeg(image: ImageArray) -> bytes:
    """Return the JPEG file of an image uint8[H, W, 3], RGB.

    Raises:
        RejectedEpisodeError: the array is not such an image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise RejectedEpisodeError(
            f"image {image.dtype}{list(image.shape)} is not a uint8[H, W, 3] picture"
        )
    done, blob = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    if not done:
        raise RejectedEpisodeError(f"image {list(image.shape)} cannot be made a JPEG file")
    return bytes(blob)


def decode_jpeg(blob: bytes | memoryview, *, height_px: int, width_px: int) -> ImageArray:
    """Return the picture uint8[height, width, 3], RGB, never larger than its header says.

    Raises:
        RejectedEpisodeError: the header gives another size, or the data cannot be decoded.
    """
    if jpeg_size(blob) != (height_px, width_px):
        raise RejectedEpisodeError(f"JPEG {jpeg_size(blob)} is not {height_px} x {width_px} pixels")
    try:
        image = cv2.imdecode(np.frombuffer(blob, np.uint8), _DECODE_FLAGS)
    except cv2.error as error:
        raise RejectedEpisodeError(f"JPEG cannot be decoded: {error.err}") from error
    if image is None or image.shape != (height_px, width_px, 3):
        raise RejectedEpisodeError("JPEG cannot be decoded")
    return np.asarray(image, np.uint8)


def jpeg_size(blob: bytes | memoryview) -> tuple[int, int]:
    """Read height and width (pixels) of a three-component, 8-bit JPEG from its frame header.

    Raises:
        RejectedEpisodeError: no such header, or the file does not end as a JPEG file does.
    """
    view = memoryview(blob)
    if len(view) < 4 or view[:2] != _START or view[-2:] != _END:
        raise RejectedEpisodeError(f"image of {len(view)} bytes is not a whole JPEG file")
    at = 2
    while at + 4 <= len(view) and view[at] == 0xFF:
        marker = view[at + 1]
        length = int.from_bytes(view[at + 2 : at + 4], "big")
        if marker in _FRAME_MARKERS:
            return _frame_size(view[at + 4 : at + 2 + length])
        if marker in _OTHER_FRAME_MARKERS or length < 2:
            break
        at += 2 + length
    raise RejectedEpisodeError("JPEG without a frame header of a supported kind")


def _frame_size(frame: memoryview) -> tuple[int, int]:
    # precision (1), height (2), width (2), number of components (1)
    if len(frame) < 6 or frame[0] != 8 or frame[5] != 3:
        raise RejectedEpisodeError("JPEG is not 8 bits in three components")
    return int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
