"""A UVC camera emulated at the level of the kernel's calls, for a process of its own.

``v4l2_camera.c`` says how: it is compiled here and preloaded into the process that opens it.
"""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from protocol.episode import ImageArray

EXPOSURE_AUTO, EXPOSURE, AUTO_WHITE_BALANCE = 0x009A0901, 0x009A0902, 0x0098090C
WHITE_BALANCE_K, GAIN, AUTO_FOCUS, FOCUS = 0x0098091A, 0x00980913, 0x009A090C, 0x009A090A
CONTROLS = 8
SIZE_PX = (128, 96)
PROCESSING_MS = 6
"""From the end of an exposure until the first packet."""
AS_IT_COMES = {
    EXPOSURE_AUTO: (3, 0, 3),
    EXPOSURE: (157, 3, 2047),
    AUTO_WHITE_BALANCE: (1, 0, 1),
    WHITE_BALANCE_K: (4600, 2800, 6500),
    GAIN: (64, 0, 255),
    AUTO_FOCUS: (1, 0, 1),
    FOCUS: (30, 0, 250),
}
"""Per control: value, lowest, highest."""


FAULTS = ("is_unplugged", "is_silent", "is_picture_frozen", "are_stamps_frozen", "stamps_are_utc")


class _Control(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("id", "value", "low", "high", "is_stuck")]


class _Board(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (*FAULTS, "width", "height", "fps", "latency_ms", "processing_ms")
        ),
        ("light", ctypes.c_int32),
        ("opened", ctypes.c_int32),
        ("start_ns", ctypes.c_int64),
        ("controls", _Control * CONTROLS),
    ]


class EmulatedCamera:
    """The camera's side of the cable: orders and readings."""

    def __init__(self, folder: Path, board: _Board, library: Path) -> None:
        self.path = str(folder / "video0")
        self.board = board
        self.environment = {
            "LD_PRELOAD": str(library),
            "V4L2_PATH": self.path,
            "V4L2_BOARD": str(folder / "board"),
            "V4L2_FRAMES": str(folder / "frames"),
        }

    def begin_anew(self) -> None:
        """Plug it in, mend it, and set every control as it comes."""
        for fault in FAULTS:
            setattr(self.board, fault, 0)
        self.board.light = AS_IT_COMES[EXPOSURE][0]
        for slot, (control, (value, low, high)) in enumerate(AS_IT_COMES.items()):
            self.board.controls[slot] = _Control(control, value, low, high, 0)

    def value(self, control: int) -> int:
        return int(self._control(control).value)

    def set(self, control: int, value: int) -> None:
        self._control(control).value = value

    def shine(self, exposure: int) -> None:
        """Let the light be such that the automatic settles on ``exposure``."""
        self.board.light = exposure

    def stick(self, control: int) -> None:
        """Let a control ignore what it is told."""
        self._control(control).is_stuck = 1

    def remove(self, control: int) -> None:
        """Let the camera have no such control."""
        self._control(control).id = 0

    def _control(self, control: int) -> _Control:
        return next(one for one in self.board.controls if one.id == control)


def build(folder: Path) -> Path | None:
    """Compile the library; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/linux/videodev2.h").exists():
        return None
    library = folder / "v4l2_camera.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@contextmanager
def emulated_camera(
    folder: Path, library: Path, pictures: list[ImageArray], *, fps: int = 100, latency_ms: int = 18
) -> Iterator[EmulatedCamera]:
    """Serve ``pictures``, uint8[96, 128, 3] in BGR, one after the other.

    Args:
        folder: for what the process shares with the camera.
        library: that ``build`` made.
        pictures: as many as are wanted.
        fps: of the sensor.
        latency_ms: from the beginning of an exposure until the whole picture is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_frames(folder / "frames.MJPG", [cv2.imencode(".jpg", one)[1] for one in pictures])
    _write_frames(folder / "frames.YUYV", [_yuyv(one) for one in pictures])
    (folder / "board").write_bytes(bytes(ctypes.sizeof(_Board)))
    with (folder / "board").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        board = _Board.from_buffer(memory)
        board.width, board.height = SIZE_PX
        board.fps, board.latency_ms, board.processing_ms = fps, latency_ms, PROCESSING_MS
        camera = EmulatedCamera(folder, board, library)
        camera.begin_anew()
        try:
            yield camera
        finally:
            camera.board = _Board.from_buffer_copy(memory)
            del board


def _yuyv(picture: ImageArray) -> ImageArray:
    yuv = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV)
    packed = np.empty((*picture.shape[:2], 2), np.uint8)
    packed[..., 0] = yuv[..., 0]
    packed[:, 0::2, 1], packed[:, 1::2, 1] = yuv[:, 0::2, 1], yuv[:, 0::2, 2]
    return packed


def _write_frames(path: Path, frames: list[ImageArray]) -> None:
    sized = [np.uint32(frame.nbytes).tobytes() + frame.tobytes() for frame in frames]
    path.write_bytes(np.uint32(len(frames)).tobytes() + b"".join(sized))
