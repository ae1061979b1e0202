"""How a USB camera is set: everything automatic off, and every setting read back.

A network that learnt from one brightness should not see another, and cameras ignore what they
dislike without a word.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import cv2
import msgspec

from protocol.configuration import NonNegativeInt, PositiveInt
from protocol.errors import CameraError, ConfigurationError
from robot_agent.cameras.framing import Region
from robot_agent.cameras.newest_frame import PictureTimeout

logger = logging.getLogger(__name__)

EXPOSURE_UNIT_MS = 0.1
"""V4L2 counts exposure in units of 100 us."""
MANUAL_EXPOSURE = 1
"""V4L2_EXPOSURE_MANUAL."""
AUTOMATIC_EXPOSURES = (3, 0)
"""V4L2_EXPOSURE_APERTURE_PRIORITY, which UVC cameras have, and V4L2_EXPOSURE_AUTO."""
TOLERANCE = 0.1
"""Cameras round exposure and colour temperature to steps of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UsbCameraOptions:
    """Which camera, and how it is set. What is not given stays as the camera has it, but fixed."""

    device: str | NonNegativeInt = 0
    """The number of /dev/videoN, or a path; one under /dev/v4l/by-id stays the same when cables
    change places."""
    capture_width_px: PositiveInt = 640
    capture_height_px: PositiveInt = 480
    fps: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 30.0
    pixel_format: Literal["MJPG", "YUYV"] = "MJPG"
    exposure_ms: Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None = None
    """None: what the camera's automatic settles on when it is opened, from then on fixed."""
    gain: NonNegativeInt | None = None
    white_balance_k: PositiveInt | None = None
    """Colour temperature."""
    focus: NonNegativeInt | None = None
    """In the camera's own units; 0 is usually far."""
    region: Region | None = None
    """Part of the picture that is shown; None: the largest of the aspect asked for, middle."""
    settle_s: Annotated[float, msgspec.Meta(ge=0, le=30)] = 1.0
    """How long the automatic exposure may settle where exposure_ms is not given."""
    timeout_s: PictureTimeout = 2.0
    """How long a picture may take, a short interruption included."""


def set_format(capture: cv2.VideoCapture, options: UsbCameraOptions) -> float:
    """Set pixel format, size and rate, and read them back.

    Returns:
        Pictures a second that the camera gives at least.

    Raises:
        ConfigurationError: the camera does not have the format or the size. A rate that it does
            not have is only a warning: it makes pictures late, not wrong.
    """
    fourcc = cv2.VideoWriter.fourcc(*options.pixel_format)
    width, height = options.capture_width_px, options.capture_height_px
    capture.set(cv2.CAP_PROP_FOURCC, fourcc)
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    capture.set(cv2.CAP_PROP_FPS, options.fps)
    has = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1")
    if has != options.pixel_format:
        raise ConfigurationError(
            f"{camera_name(options)}: pixel_format {options.pixel_format} did not take, it gives "
            f"{has!r}; `v4l2-ctl --list-formats-ext` shows what it has"
        )
    got = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    if got != (width, height):
        raise ConfigurationError(
            f"{camera_name(options)}: capture size {width}x{height} px did not take, it gives "
            f"{got[0]}x{got[1]}; `v4l2-ctl --list-formats-ext` shows what it has"
        )
    fps = capture.get(cv2.CAP_PROP_FPS)
    if abs(fps - options.fps) > TOLERANCE * options.fps:
        logger.warning(
            "%s: gives %.1f pictures a second, not %.1f", camera_name(options), fps, options.fps
        )
    return min(fps, options.fps) if fps > 0 else options.fps


def fix_settings(capture: cv2.VideoCapture, options: UsbCameraOptions) -> UsbCameraOptions:
    """Switch what is automatic off, set what is asked for, and read both back.

    Returns:
        The options with the exposure that is set.

    Raises:
        ConfigurationError: a value that was asked for did not take, or automatic exposure cannot
            be switched off. Other automatics that stay on are only warned of, and a camera
            without such a control (fixed focus) has nothing to switch off.
        CameraError: it gives no picture.
    """
    name = camera_name(options)
    if options.exposure_ms is None:
        options = replace(options, exposure_ms=_settled_exposure_ms(capture, options))
    if not _switch(capture, cv2.CAP_PROP_AUTO_EXPOSURE, MANUAL_EXPOSURE):
        raise ConfigurationError(
            f"{name}: automatic exposure cannot be switched off, and a network cannot learn from "
            "pictures whose brightness changes by itself; use another camera"
        )
    for what, control in (
        ("white balance", cv2.CAP_PROP_AUTO_WB),
        ("focus", cv2.CAP_PROP_AUTOFOCUS),
    ):
        if not _switch(capture, control, 0):
            logger.warning("%s: automatic %s stays on", name, what)
    if options.exposure_ms is not None:
        units = options.exposure_ms / EXPOSURE_UNIT_MS
        _set(capture, name, "exposure_ms", cv2.CAP_PROP_EXPOSURE, units, EXPOSURE_UNIT_MS)
    for option, control in (
        ("gain", cv2.CAP_PROP_GAIN),
        ("white_balance_k", cv2.CAP_PROP_WB_TEMPERATURE),
        ("focus", cv2.CAP_PROP_FOCUS),
    ):
        value = getattr(options, option)
        if value is not None:
            _set(capture, name, option, control, value)
    return options


def _settled_exposure_ms(capture: cv2.VideoCapture, options: UsbCameraOptions) -> float | None:
    """Let automatic exposure settle; return what it settled on, None where it is not told.

    A camera keeps its settings when a process ends: the last start has left it at manual.
    """
    control = cv2.CAP_PROP_AUTO_EXPOSURE
    if not any(_switch(capture, control, automatic) for automatic in AUTOMATIC_EXPOSURES):
        logger.warning("%s: has no automatic exposure to find one", camera_name(options))
    deadline_s = time.monotonic() + options.settle_s
    while time.monotonic() < deadline_s:
        if not capture.grab():
            raise CameraError(f"{camera_name(options)}: gives no picture")
    units = capture.get(cv2.CAP_PROP_EXPOSURE)
    if units <= 0:
        logger.warning("%s: does not tell its exposure; it is left as it is", camera_name(options))
        return None
    logger.info("%s: exposure fixed at %.1f ms", camera_name(options), units * EXPOSURE_UNIT_MS)
    return float(units * EXPOSURE_UNIT_MS)


def _switch(capture: cv2.VideoCapture, control: int, value: int) -> bool:
    """Return whether the control has the value now, or is not there at all."""
    if capture.get(control) < 0:
        return True
    capture.set(control, value)
    return int(capture.get(control)) == value


def _set(
    capture: cv2.VideoCapture,
    name: str,
    option: str,
    control: int,
    value: float,
    unit: float = 1.0,
) -> None:
    capture.set(control, round(value))
    has = capture.get(control)
    if abs(has - value) > max(1.0, TOLERANCE * value):
        found = f"has {has * unit:g}" if has >= 0 else "has no such control"
        raise ConfigurationError(
            f"{name}: {option} = {value * unit:g} did not take, the camera {found}; "
            "`v4l2-ctl --list-ctrls` shows what it offers"
        )


def camera_name(options: UsbCameraOptions) -> str:
    """Return what errors and the log call the camera."""
    device = options.device
    return f"camera /dev/video{device}" if isinstance(device, int) else f"camera {device}"
