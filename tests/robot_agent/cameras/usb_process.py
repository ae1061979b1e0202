"""A process that opens a UsbCamera and does what it is told, one JSON line at a time."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from protocol.errors import GraspFleetError
from robot_agent.cameras.usb import UsbCamera
from tests.robot_agent.cameras.recordings import number_in


def main() -> None:
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
            else:
                assert camera is not None
                said = capture(camera)
        except GraspFleetError as error:
            said = {"error": type(error).__name__, "words": str(error)}
        print(json.dumps(said), flush=True)


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
