"""A recording as a camera: in order, at its pace, and never an old picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from protocol.errors import CameraError, ConfigurationError
from robot_agent.cameras.recorded import RecordedCamera
from robot_agent.robots.simulated import SimulatedRobot
from tests.robot_agent.cameras.recordings import SIDE_PX, number_in, write_folder, write_video
from tests.waiting import PATIENCE_S, wait_until


@contextmanager
def opened(path: Path, side_px: int = 48, **options: Any) -> Iterator[RecordedCamera]:
    camera = RecordedCamera.open(
        {"path": str(path), "timeout_s": PATIENCE_S, **options},
        width_px=side_px,
        height_px=side_px,
        robot=SimulatedRobot.open({"seed": 1}),
    )
    try:
        yield camera
    finally:
        camera.close()


@pytest.mark.parametrize("write", [write_folder, write_video], ids=["folder", "video"])
def test_without_a_pace_each_picture_is_given_once_and_in_order(
    tmp_path: Path, write: Callable[[Path, int], Path]
):
    path = write(tmp_path / "recording.avi", 7)
    with opened(path, fps=0) as camera:
        seen = [number_in(camera.capture().image) for _ in range(16)]
    assert seen == [number % 7 for number in range(16)]


def test_a_recording_that_is_not_repeated_ends_with_an_error_that_says_so(tmp_path: Path):
    path = write_folder(tmp_path / "recording", 3)
    with opened(path, fps=0, loop=False) as camera:
        assert [number_in(camera.capture().image) for _ in range(3)] == [0, 1, 2]
        camera._newest._timeout_s = 0.3
        for _ in range(2):
            with pytest.raises(CameraError, match=r"within 0.3 s: .*ended after 3 pictures"):
                camera.capture()


def test_at_a_pace_pictures_that_nobody_wanted_are_gone(tmp_path: Path):
    with opened(write_folder(tmp_path / "recording", 200), fps=100) as camera:
        number = number_in(camera.capture().image)

        def has_passed_many() -> bool:
            nonlocal number
            before, number = number, number_in(camera.capture().image)
            return number - before >= 10

        wait_until(has_passed_many, "pictures go by between two that are looked at", every_s=0.2)


def test_every_picture_is_taken_after_it_was_asked_for(tmp_path: Path):
    with opened(write_video(tmp_path / "recording.avi", 9), fps=200) as camera:
        for _ in range(20):
            asked_ns = time.time_ns()
            # Both clocks are read a moment apart when one is turned into the other.
            assert camera.capture().captured_at_ns >= asked_ns - 1_000_000


def test_pictures_are_rgb_and_averages_over_areas(tmp_path: Path):
    folder = tmp_path / "recording"
    folder.mkdir()
    stripes = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    stripes[:, ::2] = (0, 100, 200)  # BGR; nothing but averaging keeps half of it
    cv2.imwrite(str(folder / "a.png"), stripes)
    with opened(folder, fps=0) as camera:
        image = camera.capture().image
    assert image.shape == (48, 48, 3)
    assert (image == (100, 50, 0)).all()


def test_a_region_is_cut_out_and_the_default_is_the_middle(tmp_path: Path):
    folder = tmp_path / "recording"
    folder.mkdir()
    wide = np.zeros((96, 160, 3), np.uint8)
    wide[:, 32:128] = 90
    wide[48:, 112:] = 250
    cv2.imwrite(str(folder / "a.png"), wide)
    with opened(folder, fps=0) as camera:
        middle = camera.capture().image
    region = {"left_px": 112, "top_px": 48, "width_px": 48, "height_px": 48}
    with opened(folder, fps=0, region=region) as camera:
        corner = camera.capture().image
    assert (middle[:24] == 90).all()
    assert (middle[24:, 40:] == 250).all()
    assert (corner == 250).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "nowhere.avi"}, "nowhere.avi: no video that can be read"),
        ({"fpss": 3}, "did you mean 'fps'"),
        ({"fps": -1}, "fps"),
        (
            {"region": {"left_px": 60, "top_px": 0, "width_px": 48, "height_px": 48}},
            "reaches to 108x48 px, but the camera's pictures have 96x96 px",
        ),
        (
            {"region": {"left_px": 0, "top_px": 0, "width_px": 90, "height_px": 48}},
            "90x48 px has another aspect than the 48x48 px",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_reason(
    tmp_path: Path, options: dict[str, Any], words: str
):
    path = write_folder(tmp_path / "recording", 1)
    with pytest.raises(ConfigurationError, match=words), opened(**{"path": path, **options}):
        pass


def test_a_picture_of_another_size_is_an_error_and_not_a_distorted_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = write_folder(tmp_path / "recording", 2)
    cv2.imwrite(str(folder / "001.png"), np.zeros((32, 64, 3), np.uint8))
    with opened(folder, fps=0, loop=False) as camera:
        camera.capture()
        camera._newest._timeout_s = 0.3
        with pytest.raises(CameraError):
            camera.capture()
    assert "picture 2 has 64x32 px, the first has 96x96" in caplog.text
