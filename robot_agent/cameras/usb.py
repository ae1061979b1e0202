"""A USB camera through V4L2: fixed settings, newest picture, comes back when plugged in again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from protocol.configuration import from_table
from protocol.episode import ImageArray
from protocol.errors import CameraError, ConfigurationError
from robot_agent.cameras.base import Frame
from robot_agent.cameras.framing import Framing
from robot_agent.cameras.newest_frame import Exposure, NewestFrame
from robot_agent.cameras.usb_settings import (
    UsbCameraOptions,
    camera_name,
    fix_settings,
    set_format,
)
from robot_agent.robots.base import Robot

OLDEST_STAMP_NS = 5_000_000_000
"""A timestamp is taken for one of the monotonic clock if it lies at most so far back."""
BUFFERS = 4
"""What OpenCV lets a driver fill at least, unless the driver has fewer."""


class UsbCamera:
    """One USB camera; satisfies Camera."""

    def __init__(self, newest: NewestFrame) -> None:
        self._newest = newest

    @classmethod
    def open(
        cls, options: Mapping[str, Any], *, width_px: int, height_px: int, robot: Robot
    ) -> Self:
        """Open and set the camera; ``robot`` is not asked.

        Raises:
            ConfigurationError: an option is unknown, or the camera did not take one.
            CameraError: no camera answers.
        """
        parsed = from_table(
            dict(options), UsbCameraOptions, name="USB camera options", folder=Path()
        )
        source = V4l2Source.open(parsed, width_px, height_px)
        # What the automatic found at first holds for as long as the agent runs.
        reopen = lambda: V4l2Source.open(source.options, width_px, height_px)  # noqa: E731
        return cls(NewestFrame(source, reopen, name=source.name, timeout_s=parsed.timeout_s))

    def capture(self) -> Frame:
        """Return a picture whose exposure began after this call."""
        return self._newest.after(time.monotonic_ns())

    def close(self) -> None:
        """Let go of the camera."""
        self._newest.close()


class V4l2Source:
    """The pictures of one V4L2 device."""

    def __init__(
        self,
        capture: cv2.VideoCapture,
        options: UsbCameraOptions,
        framing: Framing,
        fps: float,
        opened_ns: int,
    ) -> None:
        self.options = options
        """As they were asked for, with the exposure that is set."""
        self.name = camera_name(options)
        self._capture = capture
        self._framing = framing
        self._period_ns = int(1e9 / fps)
        exposure_ms = options.exposure_ms
        # One that is not told is rarely longer than a period.
        self._exposure_ns = self._period_ns if exposure_ms is None else int(exposure_ms * 1e6)
        buffers = max(BUFFERS, int(capture.get(cv2.CAP_PROP_BUFFERSIZE)))
        self._free_ns = deque(range(opened_ns - buffers, opened_ns), maxlen=buffers)
        """When each of the driver's buffers was given back to it, at the earliest; the one that it
        fills first in front."""

    @classmethod
    def open(cls, options: UsbCameraOptions, width_px: int, height_px: int) -> Self:
        """Open the device and fix its settings.

        Raises:
            ConfigurationError: a setting did not take, or the region is not in the picture.
            CameraError: the device is not there, is in use, or gives no picture.
        """
        opened_ns = time.monotonic_ns()
        capture = cv2.VideoCapture(options.device, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise CameraError(
                f"{camera_name(options)}: cannot be opened: is it plugged in, in use by nobody "
                "else, and may this user read it (group 'video')?"
            )
        try:
            fps = set_format(capture, options)
            options = fix_settings(capture, options)
            size_px = (options.capture_width_px, options.capture_height_px)
            framing = Framing.of(options.region, size_px, width_px, height_px)
        except (ConfigurationError, CameraError):
            capture.release()
            raise
        return cls(capture, options, framing, fps, opened_ns)

    def grab(self) -> Exposure:
        """Wait for the next picture.

        Linux stamps it, by the monotonic clock, when its first packet arrives: after the exposure
        and after what the camera does with a picture before it sends it, at most one period. Where
        the stamp is none of that clock, the picture may have waited since the driver got the
        buffer that it is in, and how long no clock here tells: this thread may have been held up.
        """
        # Gives back the buffer of the last picture; they take turns.
        self._free_ns.append(time.monotonic_ns())
        if not self._capture.grab():
            raise CameraError(f"{self.name}: gives no picture any more; is it unplugged?")
        now_ns = time.monotonic_ns()
        stamp_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        is_stamped = 0 <= now_ns - stamp_ns <= OLDEST_STAMP_NS
        arrived_ns = stamp_ns if is_stamped else self._free_ns[0]
        return Exposure(
            began_ns=arrived_ns - self._exposure_ns - self._period_ns,
            ended_ns=stamp_ns if is_stamped else now_ns,
        )

    def retrieve(self) -> ImageArray:
        """Return the picture, cut out and resized."""
        try:
            is_there, image = self._capture.retrieve()
        except cv2.error as error:
            raise CameraError(f"{self.name}: a picture cannot be decoded: {error}") from error
        expected = (self.options.capture_height_px, self.options.capture_width_px, 3)
        if not is_there or image.shape != expected:
            raise CameraError(f"{self.name}: a picture is damaged or of another size than set")
        return self._framing.apply(np.asarray(image, np.uint8))

    def close(self) -> None:
        """Let go of the device."""
        self._capture.release()
