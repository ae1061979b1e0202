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
from tests.robot_agent.robots.emulated_arms import IDS, calibration_of, nearly_parked

DEVICES: dict[str, Callable[[], Device]] = {
    "robotiq": lambda: EmulatedRobotiq(hurry=1.0),
    "servo-gripper": lambda: EmulatedServoGripper(hurry=1.0),
    "uarm-4": lambda: EmulatedGcodeController(hurry=1.0, firmware="uarm-4"),
    "uarm-3": lambda: EmulatedGcodeController(hurry=1.0, firmware="uarm-3"),
    "feetech": lambda: FeetechLine(
        [FeetechServo(servo_id=one) for one in IDS["so101"]],
        mechanics=nearly_parked(calibration_of("so101")),
    ),
    "dynamixel": lambda: DynamixelLine(
        [DynamixelServo(servo_id=one) for one in IDS["wx200"]],
        mechanics=nearly_parked(calibration_of("wx200")),
        supply_v=12.0,
    ),
    "marlin": lambda: EmulatedGcodeController(hurry=1.0, firmware="marlin"),
}
ARMS = {"feetech": "so101", "dynamixel": "wx200"}
"""Of the devices that are arms: the kinematic model."""


def main() -> None:
    """Serve one device as fast as a real one is."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.emulators",
        description="Emulate a device on a pseudo-terminal until Ctrl-C, to try a driver without "
        "the hardware.",
    )
    parser.add_argument("device", choices=DEVICES)
    parser.add_argument("path", type=Path, help="becomes a link to the port, such as /tmp/gripper")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="write what `robot-agent calibrate` would measure on this arm into that state folder "
        f"({' and '.join(ARMS)} only)",
    )
    chosen = parser.parse_args()
    if chosen.calibration is not None:
        if chosen.device not in ARMS:
            parser.error(f"--calibration: {chosen.device} is no arm of {', '.join(ARMS)}")
        chosen.calibration.mkdir(parents=True, exist_ok=True)
        calibration_of(ARMS[chosen.device]).write(chosen.calibration)
    with PtyPort(DEVICES[chosen.device](), chosen.path):
        print(f"{chosen.device} at {chosen.path}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("unplugged")


if __name__ == "__main__":
    main()
