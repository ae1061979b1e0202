"""The thread behind a camera: which errors it outlives, and what it says of all others."""

from __future__ import annotations

import itertools
import time
from threading import Event

import cv2
import numpy as np
import pytest

from protocol.episode import ImageArray
from protocol.errors import CameraError, GraspFleetError
from robot_agent.cameras.newest_frame import Exposure, NewestFrame
from tests.waiting import PATIENCE_S


class FailingSource:
    """Gives pictures of one grey after the other; raises ``error`` once, at the third."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error
        self._count = itertools.count()
        self._grey = 0
        self.is_closed = Event()

    def grab(self) -> Exposure:
        time.sleep(0.001)
        self._grey = next(self._count)
        if self._error is not None and self._grey == 2:
            raise self._error
        now_ns = time.monotonic_ns()
        return Exposure(began_ns=now_ns, ended_ns=now_ns)

    def retrieve(self) -> ImageArray:
        return np.full((4, 4, 3), self._grey % 256, np.uint8)

    def close(self) -> None:
        self.is_closed.set()


@pytest.mark.parametrize(
    "error",
    [CameraError("unplugged"), GraspFleetError("a driver's own"), OSError(19, "gone"), cv2.error()],
    ids=lambda error: type(error).__name__,
)
def test_a_camera_that_fails_in_any_way_that_cameras_do_is_opened_again(error: Exception):
    is_open_again = Event()

    def reopen() -> FailingSource:
        is_open_again.set()
        return FailingSource(None)

    newest = NewestFrame(
        FailingSource(error), reopen, name="camera of a test", timeout_s=PATIENCE_S
    )
    assert is_open_again.wait(PATIENCE_S)
    newest.after(time.monotonic_ns())
    newest.close()


def test_what_nobody_foresaw_is_said_to_whoever_asks_for_a_picture():
    source = FailingSource(ZeroDivisionError("a defect"))
    newest = NewestFrame(source, lambda: source, name="camera of a test", timeout_s=PATIENCE_S)
    assert source.is_closed.wait(PATIENCE_S)
    with pytest.raises(CameraError, match=r"camera of a test: .*ZeroDivisionError\('a defect'\)"):
        newest.after(time.monotonic_ns())
    newest.close()
