"""Emulated devices on ports of this machine, to try a driver without the hardware.

python -m tests.emulators DEVICE PATH, until Ctrl-C; PATH is then the driver's port.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from pathlib import Path

from tests.emulators.arduino_gripper import EmulatedServoGripper
from tests.emulators.dynamixel_servos import DynamixelLine, DynamixelServo
from tests.emulators.feetech_servos import FeetechLine, FeetechServo
from tests.emulators.gcode_controller import EmulatedGcodeController
from tests.emulators.pty_port import Device, PtyPort
from tests.emulators.robotiq import EmulatedRobotiq

DEVICES: dict[str, Callable[[], Device]] = {
    "robotiq": lambda: EmulatedRobotiq(hurry=1.0),
    "servo-gripper": lambda: EmulatedServoGripper(hurry=1.0),
    "uarm-4": lambda: EmulatedGcodeController(hurry=1.0, firmware="uarm-4"),
    "uarm-3": lambda: EmulatedGcodeController(hurry=1.0, firmware="uarm-3"),
    "feetech": lambda: FeetechLine([FeetechServo(servo_id=one) for one in range(1, 7)]),
    "dynamixel": lambda: DynamixelLine(
        [DynamixelServo(servo_id=one) for one in range(1, 7)], supply_v=12.0
    ),
    "marlin": lambda: EmulatedGcodeController(hurry=1.0, firmware="marlin"),
}


def main() -> None:
    """Serve one device as fast as a real one is."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.emulators",
        description="Emulate a device on a pseudo-terminal until Ctrl-C, to try a driver without "
        "the hardware.",
    )
    parser.add_argument("device", choices=DEVICES)
    parser.add_argument("path", type=Path, help="becomes a link to the port, such as /tmp/gripper")
    chosen = parser.parse_args()
    with PtyPort(DEVICES[chosen.device](), chosen.path):
        print(f"{chosen.device} at {chosen.path}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("unplugged")


if __name__ == "__main__":
    main()
