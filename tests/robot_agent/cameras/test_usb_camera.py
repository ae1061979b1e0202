"""A USB camera, behind real V4L2 calls of OpenCV: its settings, its freshness, its faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.episode import ImageArray
from tests.delivery_site import ROOT
from tests.emulators.v4l2_camera import (
    AUTO_FOCUS,
    AUTO_WHITE_BALANCE,
    EXPOSURE,
    EXPOSURE_AUTO,
    FOCUS,
    GAIN,
    PROCESSING_MS,
    SIZE_PX,
    WHITE_BALANCE_K,
    EmulatedCamera,
    build,
    emulated_camera,
)
from tests.robot_agent.cameras.recordings import SIDE_PX, numbered_picture
from tests.waiting import PATIENCE_S, wait_until

PICTURES = 256
Said = dict[str, Any]


def wide_picture(number: int) -> ImageArray:
    """A numbered square in the middle of a wider picture, orange in its lower right corner."""
    picture = np.full((SIZE_PX[1], SIZE_PX[0], 3), 30, np.uint8)
    left = (SIZE_PX[0] - SIDE_PX) // 2
    picture[:, left : left + SIDE_PX] = numbered_picture(number)
    picture[-16:, left + SIDE_PX - 16 : left + SIDE_PX] = (0, 120, 240)
    return picture


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = build(tmp_path_factory.mktemp("library"))
    if found is None:
        pytest.skip("no C compiler, or no headers of the kernel, to build an emulated camera with")
    return found


@pytest.fixture(scope="module")
def running(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A camera, and a process that opens it; what the process logs is in log.txt."""
    folder = tmp_path_factory.mktemp("camera")
    pictures = [wide_picture(number) for number in range(PICTURES)]
    with (
        emulated_camera(folder, library, pictures) as camera,
        (folder / "log.txt").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.robot_agent.cameras.usb_process"],
            cwd=ROOT,
            env={**os.environ, **camera.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as started,
    ):
        try:
            yield Process(started, camera, folder / "log.txt")
        finally:
            started.stdin.close()
            started.wait(PATIENCE_S)


@pytest.fixture
def camera(running: Process) -> Iterator[EmulatedCamera]:
    """The camera as it comes, with nobody looking."""
    running.camera.begin_anew()
    yield running.camera
    running.tell(close=True)


class Process:
    """The process that opens the camera."""

    def __init__(self, running: subprocess.Popen[str], camera: EmulatedCamera, log: Path) -> None:
        self._running = running
        self.camera = camera
        self.log = log

    def tell(self, **order: Any) -> Said:
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        print(json.dumps(order), file=self._running.stdin, flush=True)
        said: Said = json.loads(self._running.stdout.readline())
        return said

    def capture(self) -> Said:
        return self.tell(capture=True)


def options(camera: EmulatedCamera, **changes: Any) -> dict[str, Any]:
    return {
        "device": camera.path,
        "capture_width_px": SIZE_PX[0],
        "capture_height_px": SIZE_PX[1],
        "fps": 100.0,
        "settle_s": 0.1,
        "timeout_s": 1.2,
        **changes,
    }


def open_camera(running: Process, **changes: Any) -> None:
    said = running.tell(open=options(running.camera, **changes))
    assert said == {}, said


def exposure_began_ns(camera: EmulatedCamera, said: Said) -> int:
    """When the picture that was given was exposed, by the sensor's own count."""
    period_ns = 10**9 // camera.board.fps
    asked = (said["asked_ns"] - camera.board.start_ns) / period_ns
    # The number counts to 256 only: of those near the question, the one it must be.
    turns = round((asked - said["number"]) / PICTURES)
    return camera.board.start_ns + (said["number"] + turns * PICTURES) * period_ns


@pytest.mark.parametrize("pixel_format", ["MJPG", "YUYV"])
@pytest.mark.parametrize(
    "stamps_are_utc",
    [pytest.param(False, id="stamped"), pytest.param(True, id="without stamps")],
)
def test_no_picture_was_begun_before_it_was_asked_for_however_long_nobody_looked(
    camera: EmulatedCamera, running: Process, pixel_format: str, stamps_are_utc: bool
):
    camera.board.stamps_are_utc = stamps_are_utc
    open_camera(running, pixel_format=pixel_format, exposure_ms=5.0)
    for pause_s in (0.3, 0.0, 0.05, 0.2, *[0.0] * 20):
        time.sleep(pause_s)  # long enough for every buffer of the camera to grow old
        said = running.capture()
        began_ns = exposure_began_ns(camera, said)
        assert began_ns >= said["asked_ns"]
        assert said["captured_at_ns"] >= said["asked_utc_ns"]
        assert said["shape"] == [48, 48, 3]
        red, green, blue = said["corner"]
        assert red > 200 > green > 90 > blue


@pytest.mark.parametrize("stamps_are_utc", [False, True], ids=["stamped", "without stamps"])
def test_no_picture_is_an_old_one_where_the_thread_that_reads_hardly_gets_its_turn(
    camera: EmulatedCamera, running: Process, stamps_are_utc: bool
):
    camera.board.stamps_are_utc = stamps_are_utc
    open_camera(running, exposure_ms=5.0, timeout_s=10.0)
    running.tell(hog=True)
    try:
        for _ in range(5):
            said = running.capture()
            assert exposure_began_ns(camera, said) >= said["asked_ns"]
    finally:
        running.tell(hog=False)


def test_the_moment_that_a_picture_tells_is_when_its_first_packet_arrived(
    camera: EmulatedCamera, running: Process
):
    open_camera(running, exposure_ms=5.0)
    said = running.capture()
    arrived_ns = exposure_began_ns(camera, said) + 5_000_000 + PROCESSING_MS * 1_000_000
    told_ns = said["captured_at_ns"] - said["asked_utc_ns"] + said["asked_ns"]
    assert abs(told_ns - arrived_ns) < 500_000


def test_everything_automatic_is_off_and_what_was_asked_for_is_set(
    camera: EmulatedCamera, running: Process
):
    open_camera(running, exposure_ms=12.5, gain=10, white_balance_k=5000, focus=0)
    wished = {EXPOSURE_AUTO: 1, AUTO_WHITE_BALANCE: 0, AUTO_FOCUS: 0}
    wished |= {EXPOSURE: 125, GAIN: 10, WHITE_BALANCE_K: 5000, FOCUS: 0}
    assert {control: camera.value(control) for control in wished} == wished


def test_an_exposure_that_was_not_given_is_what_the_automatic_settled_on_also_after_replugging(
    camera: EmulatedCamera, running: Process
):
    open_camera(running)
    assert [camera.value(EXPOSURE_AUTO), camera.value(EXPOSURE)] == [1, 157]
    unplug(camera)
    wait_until(lambda: "error" in running.capture(), "that it is noticed")
    camera.set(EXPOSURE_AUTO, 3)
    camera.shine(900)
    plug_in(camera)
    wait_until(lambda: "error" not in running.capture(), "a picture after replugging")
    assert [camera.value(EXPOSURE_AUTO), camera.value(EXPOSURE)] == [1, 157]


def test_every_start_finds_an_exposure_that_was_not_given_by_the_light_of_its_day(
    camera: EmulatedCamera, running: Process
):
    for exposure in (20, 90):  # the camera keeps what the start before has set
        camera.shine(exposure)
        open_camera(running)
        running.tell(close=True)
        assert [camera.value(EXPOSURE_AUTO), camera.value(EXPOSURE)] == [1, exposure]


@pytest.mark.parametrize(
    ("control", "changes", "words"),
    [
        (EXPOSURE, {"exposure_ms": 5.0}, "exposure_ms = 5 did not take, the camera has 15.7"),
        (GAIN, {"gain": 200}, "gain = 200 did not take, the camera has 64"),
        (FOCUS, {"focus": 100}, "focus = 100 did not take, the camera has 30"),
        (EXPOSURE_AUTO, {}, "automatic exposure cannot be switched off"),
    ],
)
def test_a_setting_that_did_not_take_is_refused_with_what_the_camera_has(
    camera: EmulatedCamera, running: Process, control: int, changes: dict[str, Any], words: str
):
    camera.stick(control)
    said = running.tell(open=options(camera, **changes))
    assert said["error"] == "ConfigurationError"
    assert words in said["words"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"white_balance_k": 9000}, "white_balance_k = 9000 did not take, the camera has 6500"),
        ({"capture_width_px": 640}, "capture size 640x96 px did not take, it gives 128x96"),
        ({"pixel_format": "H264"}, "pixel_format"),
        ({"exposure": 5}, "did you mean 'exposure_ms'"),
        (
            {"region": {"left_px": 100, "top_px": 0, "width_px": 96, "height_px": 96}},
            "reaches to 196x96 px, but the camera's pictures have 128x96 px",
        ),
    ],
)
def test_what_the_camera_cannot_do_is_refused(
    camera: EmulatedCamera, running: Process, changes: dict[str, Any], words: str
):
    said = running.tell(open=options(camera, **changes))
    assert said["error"] == "ConfigurationError"
    assert words in said["words"]


def test_a_camera_of_fixed_focus_is_used_but_has_no_focus_to_set(
    camera: EmulatedCamera, running: Process
):
    camera.remove(AUTO_FOCUS)
    camera.remove(FOCUS)
    said = running.tell(open=options(camera, focus=5))
    assert said["error"] == "ConfigurationError"
    assert "focus = 5 did not take, the camera has no such control" in said["words"]
    open_camera(running)
    assert "number" in running.capture()


def test_what_else_stays_automatic_is_warned_of(camera: EmulatedCamera, running: Process):
    camera.stick(AUTO_WHITE_BALANCE)
    open_camera(running)
    assert "number" in running.capture()
    assert "automatic white balance stays on" in running.log.read_text()


def unplug(camera: EmulatedCamera) -> None:
    camera.board.is_unplugged = 1


def plug_in(camera: EmulatedCamera) -> None:
    camera.board.is_unplugged = 0


def freeze_picture(camera: EmulatedCamera) -> None:
    camera.board.is_picture_frozen = 1


def thaw_picture(camera: EmulatedCamera) -> None:
    camera.board.is_picture_frozen = 0


def freeze_stamps(camera: EmulatedCamera) -> None:
    camera.board.are_stamps_frozen = 1


def thaw_stamps(camera: EmulatedCamera) -> None:
    camera.board.are_stamps_frozen = 0


def fall_silent(camera: EmulatedCamera) -> None:
    camera.board.is_silent = 1


def speak_again(camera: EmulatedCamera) -> None:
    camera.board.is_silent = 0


@pytest.mark.parametrize(
    ("fail", "mend", "words"),
    [
        (unplug, plug_in, "cannot be opened: is it plugged in"),
        (freeze_picture, thaw_picture, "the same picture again and again"),
        (freeze_stamps, thaw_stamps, "timestamps of its pictures do not advance"),
        (fall_silent, speak_again, "no new picture within 1.2 s"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_camera_that_fails_is_an_error_and_comes_back_by_itself(
    camera: EmulatedCamera, running: Process, fail: Any, mend: Any, words: str
):
    open_camera(running, exposure_ms=5.0)
    assert "number" in running.capture()
    fail(camera)
    said = running.capture()
    if "number" in said:  # it was begun before the fault
        said = running.capture()
    assert said["error"] == "CameraError"
    assert words in said["words"]
    mend(camera)
    wait_until(lambda: "number" in running.capture(), "pictures again")


def test_a_camera_that_is_not_there_is_said_at_once(camera: EmulatedCamera, running: Process):
    unplug(camera)
    said = running.tell(open=options(camera))
    assert said["error"] == "CameraError"
    assert "cannot be opened: is it plugged in" in said["words"]


def test_a_closed_camera_may_be_closed_again(camera: EmulatedCamera, running: Process):
    open_camera(running)
    assert [running.tell(close=True) for _ in range(2)] == [{}, {}]
