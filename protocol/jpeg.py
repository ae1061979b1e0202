"""JPEG images, whose size is read from their header before anything is decoded."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise

import cv2
import numpy as np

from protocol.episode import ImageArray
from protocol.errors import RejectedEpisodeError

QUALITY = 92
_ENCODE_OPTIONS = [
    cv2.IMWRITE_JPEG_QUALITY,
    QUALITY,
    # Halved colour resolution blurs cutlery into the floor; whole costs a fifth more bytes.
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]

_START = b"\xff\xd8"
_END = b"\xff\xd9"
_MARK = 0xFF
_SEGMENT = struct.Struct(">BBH")
"""0xFF, marker, length of what follows the marker."""
_FRAME = struct.Struct(">BHHB")
"""Precision, height, width, number of components."""
MOST_SEGMENTS = 64
"""Before the frame header. Cameras write fewer than ten; two million bytes could hold half a
million empty ones, and each costs the gateway time."""
_BASELINE = 0xC0
"""The one kind of frame that encode_jpeg writes; others cost a decoder far more per byte."""
_SCAN = b"\xff\xda"
"""What a scan begins with; between the frame header and the end nothing else holds it."""
MOST_SCANS = 3
"""One for each component. A decoder takes any number of empty ones, and goes through all blocks of
the picture for each."""
_OTHER_FRAME_MARKERS = frozenset(range(0xC1, 0xD0)) - {0xC4, 0xC8, 0xCC}
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
    done, blob = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _ENCODE_OPTIONS)
    if not done:
        raise RejectedEpisodeError(f"image {list(image.shape)} cannot be made a JPEG file")
    return bytes(blob)


def decode_jpeg(blob: bytes | memoryview, *, height_px: int, width_px: int) -> ImageArray:
    """Return the picture uint8[height, width, 3], RGB, never larger than its header says.

    Raises:
        RejectedEpisodeError: the header gives another size, there are too many scans, or the data
            cannot be decoded.
    """
    frame_at = _find_frame(blob)
    found = _read_frame(blob, frame_at)
    if found != (height_px, width_px):
        raise RejectedEpisodeError(f"JPEG {found} is not {height_px} x {width_px} pixels")
    scans = bytes(blob).count(_SCAN, frame_at)
    if scans > MOST_SCANS:
        raise RejectedEpisodeError(f"JPEG of {scans} scans exceeds {MOST_SCANS}")
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
    return _read_frame(blob, _find_frame(blob))


def check_jpeg_sizes(
    data: bytes | memoryview, begin: int, sizes: Sequence[int], *, height_px: int, width_px: int
) -> None:
    """Check that every image measures the same, by its header; nothing is decoded or copied.

    Args:
        data: holds the images, one after the other up to its end.
        begin: where the first one begins.
        sizes: of each, in bytes.
        height_px: of each.
        width_px: of each.

    Raises:
        RejectedEpisodeError: one has another size, or is not a whole JPEG file.
    """
    bounds = list(accumulate(sizes, initial=begin))
    head = _checked_head(data[begin : bounds[1]], height_px, width_px)
    # One camera's files are alike up to the end of the frame header: no need to parse each, only
    # to look at the seams between them.
    seam = _END + head
    seams = b"".join([data[at - 2 : at + len(head)] for at in bounds[1:-1]])
    are_alike = seams == seam * (len(sizes) - 1) and min(sizes) >= len(seam)
    if are_alike and data[-2:] == _END:
        return
    for start, end in pairwise(bounds[1:]):
        _checked_head(data[start:end], height_px, width_px)


def _checked_head(blob: bytes | memoryview, height_px: int, width_px: int) -> bytes:
    """Return an image up to the end of its frame header, which gives this size."""
    frame_at = _find_frame(blob)
    found = _read_frame(blob, frame_at)
    if found != (height_px, width_px):
        raise RejectedEpisodeError(
            "an image of {} x {} px".format(*found)
            + f", but the episode says {height_px} x {width_px}"
        )
    return bytes(blob[: frame_at + _FRAME.size])


def _read_frame(blob: bytes | memoryview, frame_at: int) -> tuple[int, int]:
    precision, height_px, width_px, components = _FRAME.unpack_from(blob, frame_at)
    if precision != 8 or components != 3:
        raise RejectedEpisodeError("JPEG is not 8 bits in three components")
    return height_px, width_px


def _find_frame(blob: bytes | memoryview) -> int:
    """Return the offset of the frame header's content."""
    size = len(blob)
    if size < _SEGMENT.size or blob[:2] != _START or blob[-2:] != _END:
        raise RejectedEpisodeError(f"image of {size} bytes is not a whole JPEG file")
    at = len(_START)
    for _ in range(MOST_SEGMENTS + 1):
        if at + _SEGMENT.size + _FRAME.size > size:
            break
        mark, marker, length = _SEGMENT.unpack_from(blob, at)
        if marker == _BASELINE and mark == _MARK:
            return at + _SEGMENT.size
        if mark != _MARK or marker in _OTHER_FRAME_MARKERS or length < 2:
            break
        at += 2 + length
    raise RejectedEpisodeError(
        f"JPEG without a frame header of a supported kind behind at most {MOST_SEGMENTS} segments"
    )
