"""Recordings whose pictures tell their number, for the tests of cameras."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from protocol.episode import ImageArray

SIDE_PX = 96
_BLOCK_PX = 24


def numbered_picture(number: int) -> ImageArray:
    """Return uint8[96, 96, 3], BGR: grey, with ``number`` as bright blocks of its bits."""
    picture = np.full((SIDE_PX, SIDE_PX, 3), 60, np.uint8)
    for bit in range(8):
        if number >> bit & 1:
            row, column = divmod(bit, 4)
            top, left = row * _BLOCK_PX, column * _BLOCK_PX
            picture[top : top + _BLOCK_PX, left : left + _BLOCK_PX] = 220
    return picture


def number_in(image: ImageArray) -> int:
    """Return the number that a picture tells, at any size."""
    side = image.shape[0] // 4
    middles = [divmod(bit, 4) for bit in range(8)]
    levels = [image[r * side + side // 2, c * side + side // 2].mean() for r, c in middles]
    return sum(1 << bit for bit, level in enumerate(levels) if level > 140)


def write_folder(folder: Path, count: int) -> Path:
    """Write pictures 0 to count - 1 as files of a new folder."""
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:03}.png"), numbered_picture(number))
    return folder


def write_video(path: Path, count: int) -> Path:
    """Write pictures 0 to count - 1 as a video."""
    fourcc = cv2.VideoWriter.fourcc(*"MJPG")
    video = cv2.VideoWriter(str(path), fourcc, 30, (SIDE_PX, SIDE_PX))
    for number in range(count):
        video.write(numbered_picture(number))
    video.release()
    return path
