"""A process that opens a UsbCamera and does what it is told, one JSON line at a time."""

from __future__ import annotations

import ctypes
import json
import logging
import sys
import time
from threading import Event, Thread
from typing import Any

from protocol.errors import GraspFleetError
from robot_agent.cameras.usb import UsbCamera
from tests.robot_agent.cameras.recordings import number_in

HOGGED_US = 40_000
"""How long nobody else gets a turn at a time: longer than the emulated camera takes to a picture
that was begun when it was asked for."""


def main() -> None:
    resting = Event()
    logging.basicConfig(level=logging.INFO)
    camera: UsbCamera | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if "open" in order:
                size = {"width_px": 48, "height_px": 48, **order.get("size", {})}
                camera = UsbCamera.open(order["open"], **size, robot=None)  # type: ignore[arg-type]
                said: dict[str, Any] = {}
            elif "close" in order:
                if camera is not None:
                    camera.close()
                said = {}
            elif "hog" in order:
                if order["hog"]:
                    resting.clear()
                    Thread(target=hog_until, args=(resting,), daemon=True).start()
                else:
                    resting.set()
                said = {}
            else:
                assert camera is not None
                said = capture(camera)
        except GraspFleetError as error:
            said = {"error": type(error).__name__, "words": str(error)}
        print(json.dumps(said), flush=True)


def hog_until(resting: Event) -> None:
    """Hold the interpreter, and let go of it only for as long as another thread's turn."""
    sleep_holding_it = ctypes.PyDLL(None).usleep
    while not resting.is_set():
        sleep_holding_it(HOGGED_US)


def capture(camera: UsbCamera) -> dict[str, Any]:
    asked_ns, asked_utc_ns = time.monotonic_ns(), time.time_ns()
    frame = camera.capture()
    return {
        "asked_ns": asked_ns,
        "asked_utc_ns": asked_utc_ns,
        "captured_at_ns": frame.captured_at_ns,
        "number": number_in(frame.image),
        "corner": frame.image[-3, -3].tolist(),
        "shape": list(frame.image.shape),
        "took_s": (time.monotonic_ns() - asked_ns) * 1e-9,
    }


if __name__ == "__main__":
    main()
