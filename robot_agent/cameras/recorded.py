"""A recording as a camera: a video file or a folder of pictures, for replays and tests."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import cv2
import msgspec
import numpy as np

from protocol.configuration import from_table
from protocol.episode import ImageArray
from protocol.errors import CameraError, ConfigurationError
from robot_agent.cameras.base import Frame
from robot_agent.cameras.framing import Framing, Region
from robot_agent.cameras.newest_frame import Exposure, NewestFrame, PictureTimeout
from robot_agent.robots.base import Robot

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedCameraOptions:
    """What is shown, and how fast."""

    path: Path
    """A video file, or a folder whose pictures are shown in the order of their names."""
    loop: bool = True
    """Begin anew at the end; without it, what comes after the end is a CameraError."""
    fps: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 30.0
    """Pictures a second, whether somebody wants them or not, as a camera does; 0 gives the next
    picture to whoever asks, and skips none."""
    region: Region | None = None
    """Part of the picture that is shown; None: the largest of the aspect asked for."""
    timeout_s: PictureTimeout = 2.0


class RecordedCamera:
    """Shows a recording as a camera would; satisfies Camera."""

    def __init__(self, newest: NewestFrame) -> None:
        self._newest = newest

    @classmethod
    def open(
        cls, options: Mapping[str, Any], *, width_px: int, height_px: int, robot: Robot
    ) -> Self:
        """Open the recording; ``robot`` is not asked.

        Raises:
            ConfigurationError: an option is unknown, or there is nothing to show.
        """
        parsed = from_table(
            dict(options), RecordedCameraOptions, name="recorded camera options", folder=Path()
        )
        source = RecordedSource(parsed, width_px, height_px)
        newest = NewestFrame(
            source,
            # What has ended stays so; there is nothing to plug in again.
            lambda: source,
            name=f"recording {parsed.path}",
            timeout_s=parsed.timeout_s,
            keeps_up=parsed.fps > 0,
            may_repeat=True,
        )
        return cls(newest)

    def capture(self) -> Frame:
        """Return the first picture that is due after this call began."""
        return self._newest.after(time.monotonic_ns())

    def close(self) -> None:
        """Close the recording."""
        self._newest.close()


class RecordedSource:
    """The pictures of a recording at their pace."""

    def __init__(self, options: RecordedCameraOptions, width_px: int, height_px: int) -> None:
        """Look at the first picture.

        Raises:
            ConfigurationError: there is none, or it does not have the region asked for.
        """
        self._options = options
        self._pictures = self._begin()
        self._size_px = _size_px(options.path)
        self._framing = Framing.of(options.region, self._size_px, width_px, height_px)
        self._image: ImageArray | None = None
        self._shown = 0
        self._due_s = time.monotonic()

    def grab(self) -> Exposure:
        """Wait until the next picture is due."""
        if self._options.fps > 0:
            self._due_s = max(self._due_s + 1 / self._options.fps, time.monotonic())
            time.sleep(max(0.0, self._due_s - time.monotonic()))
        now_ns = time.monotonic_ns()
        self._image = self._next()
        return Exposure(began_ns=now_ns, ended_ns=now_ns)

    def retrieve(self) -> ImageArray:
        """Return the picture, cut out and resized."""
        assert self._image is not None, "nothing was grabbed"
        height, width = self._image.shape[:2]
        if (width, height) != self._size_px:
            raise CameraError(
                f"recording {self._options.path}: picture {self._shown} has {width}x{height} px, "
                f"the first has {self._size_px[0]}x{self._size_px[1]}"
            )
        return self._framing.apply(self._image)

    def close(self) -> None:
        """Let go of the file."""
        self._pictures = iter(())

    def _next(self) -> ImageArray:
        image = next(self._pictures, None)
        if image is None and self._options.loop:
            self._pictures = self._begin()
            image = next(self._pictures, None)
        if image is None:
            raise CameraError(f"recording {self._options.path}: ended after {self._shown} pictures")
        self._shown += 1
        return image

    def _begin(self) -> Iterator[ImageArray]:
        path = self._options.path
        return _pictures_of_folder(path) if path.is_dir() else _pictures_of_video(path)


def _size_px(path: Path) -> tuple[int, int]:
    pictures = _pictures_of_folder(path) if path.is_dir() else _pictures_of_video(path)
    first = next(pictures, None)
    if first is None:
        raise ConfigurationError(
            f"recording {path}: no video that can be read, nor a folder with "
            + ", ".join(sorted(PICTURE_SUFFIXES))
        )
    return int(first.shape[1]), int(first.shape[0])


def _pictures_of_folder(folder: Path) -> Iterator[ImageArray]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURE_SUFFIXES:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise CameraError(f"recording {path}: cannot be decoded")
            yield np.asarray(image, np.uint8)


def _pictures_of_video(path: Path) -> Iterator[ImageArray]:
    video = cv2.VideoCapture(str(path))
    try:
        while True:
            is_there, image = video.read()
            if not is_there:
                return
            yield np.asarray(image, np.uint8)
    finally:
        video.release()
