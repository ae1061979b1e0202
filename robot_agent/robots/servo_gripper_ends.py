"""Measures a servo gripper's ends, once, for its options in robot.toml.

python -m robot_agent.robots.servo_gripper_ends PORT PULSE
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from protocol.errors import ConfigurationError, GraspFleetError
from robot_agent.arms.clock import SystemClock
from robot_agent.config import SafetyConfig
from robot_agent.robots.base import RobotSite
from robot_agent.robots.servo_gripper import ServoGripper


def measure(
    port: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PORT")],
    pulse_us: Annotated[int, tyro.conf.Positional, tyro.conf.arg(metavar="PULSE")],
    stall_current_a: float = 1.2,
    max_grip: float = 0.3,
) -> None:
    """Move a servo gripper to a pulse, slowly, and say what its feedback reads there.

    Go in small steps towards either end. What is said where the fingers are open is open_us and
    open_reading; where they just touch, closed_us and closed_reading. The agent must not run.

    Args:
        port: Of the gripper's board, as in /dev/serial/by-id.
        pulse_us: Where to go, 500 to 2500; 1500 is the middle.
        stall_current_a: What the servo draws when it is blocked.
        max_grip: The servo is stopped at this share of it.
    """
    site = RobotSite(name="gripper", state_folder=Path(), safety=SafetyConfig(max_grip=max_grip))
    options = {"port": port, "stall_current_a": stall_current_a, "travel_s": 4.0}
    gripper = ServoGripper.open(options, site, SystemClock())
    try:
        found = gripper.go_to(pulse_us)
    finally:
        gripper.disconnect()
    print(
        f"pulse {found.pulse_us} us, reading {found.feedback}, {found.current_a:.2f} A, "
        f"{found.motion.name.lower()}"
    )


def main() -> None:
    """Run the command line; errors are one clear line on stderr."""
    try:
        tyro.cli(measure, prog="servo_gripper_ends")
    except GraspFleetError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)


if __name__ == "__main__":
    main()
