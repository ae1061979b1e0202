"""Does the camera give fresh, well exposed, sharp pictures, and how many a second."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from robot_agent.cameras.base import Camera, Frame
from robot_agent.robots.check_result import CheckResult, fail, ok, warn

PICTURES = 10
LEAST_HZ = 5.0
"""A servoing step waits for one picture."""
LEAST_SHARPNESS = 5.0
"""Variance of the Laplacian, of levels out of 255: hundreds in focus; 2 to 4 where edges are
blurred with a standard deviation of 2 px, and less where nothing is to be seen."""
BRIGHT_LEVEL, DARK_LEVEL = 250, 8
MOST_CLIPPED = 0.10
"""Share of pixels at either end of the range: they show nothing."""
MEDIAN_LEVELS = (40, 215)
"""Between them the picture is well exposed."""
_LIGHT = "change the lamp or the camera's exposure in [camera.options], which must stay locked"


def check_camera(camera: Camera) -> Iterator[CheckResult]:
    """Take pictures and look at them; nothing moves."""
    camera.capture()  # the first one may wait for the sensor
    asked_ns = time.monotonic_ns()
    began_s = time.monotonic()
    frames = [camera.capture() for _ in range(PICTURES)]
    taken_s = time.monotonic() - began_s
    grey = cv2.cvtColor(frames[-1].image, cv2.COLOR_RGB2GRAY).astype(np.uint8)
    yield _freshness(frames, asked_ns, PICTURES / taken_s)
    yield _exposure(grey)


def check_sharpness(camera: Camera) -> Iterator[CheckResult]:
    """Measure the variance of the Laplacian that two pictures have in common, which is no noise.

    Args:
        camera: with detailed pictures: in one made as small as the network sees, a lens out of
            focus cannot be told from one in focus.
    """
    subject = "sharpness"
    first, second = (_laplacian(camera.capture()) for _ in range(2))
    # Pictures that have nothing in common differ from that by chance, either way.
    common = max(0.0, float(((first - first.mean()) * (second - second.mean())).mean()))
    found = f"{common:.0f} (variance of the Laplacian), {first.shape[1]}x{first.shape[0]} px"
    if common < LEAST_SHARPNESS:
        yield warn(
            subject,
            f"{found}, below {LEAST_SHARPNESS:.0f}",
            "clean and focus the lens; look whether the camera sees the bin, with something in it",
        )
    else:
        yield ok(subject, found)


def _laplacian(frame: Frame) -> NDArray[np.float64]:
    grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
    return cv2.Laplacian(grey, cv2.CV_64F).astype(np.float64)


def _freshness(frames: Sequence[Frame], asked_ns: int, rate_hz: float) -> CheckResult:
    subject = "camera"
    height_px, width_px = frames[0].image.shape[:2]
    found = f"{width_px}x{height_px} px, {rate_hz:.0f} pictures/s"
    if frames[0].exposed_ns < asked_ns:
        late_s = (asked_ns - frames[0].exposed_ns) * 1e-9
        return fail(
            subject,
            f"{found}; a picture is {late_s:.2f} s older than the question",
            "the driver gives pictures from its queue: this is a defect of the camera's driver",
        )
    if all(np.array_equal(frames[0].image, frame.image) for frame in frames[1:]):
        return fail(
            subject,
            f"{found}, all {len(frames)} the same to the last bit: it is frozen",
            "unplug the camera and plug it in again; a sensor that lives shows some noise",
        )
    if rate_hz < LEAST_HZ:
        return warn(
            subject,
            f"{found}, fewer than {LEAST_HZ:.0f}",
            "shorten the exposure (more light), or use another USB port",
        )
    return ok(subject, found)


def _exposure(grey: NDArray[np.uint8]) -> CheckResult:
    subject = "exposure"
    bright, dark = float((grey >= BRIGHT_LEVEL).mean()), float((grey <= DARK_LEVEL).mean())
    median = float(np.median(grey))
    found = f"median {median:.0f} of 255, {bright:.0%} white, {dark:.0%} black"
    low, high = MEDIAN_LEVELS
    if bright > MOST_CLIPPED or median > high:
        return warn(subject, f"{found}: over-exposed", _LIGHT)
    if dark > MOST_CLIPPED or median < low:
        return warn(subject, f"{found}: under-exposed", _LIGHT)
    return ok(subject, found)
