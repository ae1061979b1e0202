"""A G-code arm and the emulated controller that it is opened on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.episode import GripperPose
from robot_agent.config import SafetyConfig
from robot_agent.robots.base import RobotSite
from robot_agent.robots.gcode_arm import GcodeArm
from tests.emulators.gcode_controller import EmulatedGcodeController
from tests.emulators.hurried_clock import HurriedClock
from tests.emulators.pty_port import PtyPort
from tests.emulators.robotiq import EmulatedRobotiq

ABOVE_BIN = GripperPose(x_m=0.04, y_m=-0.03, z_m=0.12, yaw_rad=0.6)


def site(folder: Path, **safety: float) -> RobotSite:
    limits = SafetyConfig(**{"max_joint_speed_rad_s": 100.0} | safety)
    return RobotSite(name="arm-1", state_folder=folder, safety=limits)


class Bench:
    """A controller on a cable, and what is opened on it."""

    def __init__(self, folder: Path, firmware: str = "uarm-4") -> None:
        self.controller = EmulatedGcodeController(firmware=firmware)
        self.line = PtyPort(self.controller, folder / "arm")
        self.folder = folder
        self.options: dict[str, object] = {
            "port": str(self.line.path), "firmware": firmware, "tool_travel_s": 0.05,
        }  # fmt: skip

    def open(self, *, safety: dict[str, float] | None = None, **options: object) -> GcodeArm:
        return GcodeArm.open(
            self.options | options, site(self.folder, **safety or {}), HurriedClock()
        )

    @contextmanager
    def opened(self, **options: object) -> Iterator[GcodeArm]:
        arm = self.open(**options)
        try:
            yield arm
        finally:
            arm.close()


@contextmanager
def marlin_bench(folder: Path) -> Iterator[Bench]:
    """A Marlin's bench, with the gripper that such an arm needs."""
    bench = Bench(folder, "marlin")
    with bench.line, PtyPort(EmulatedRobotiq(), folder / "gripper") as gripper:
        driver = "robot_agent.robots.robotiq_2f85:Robotiq2F85"
        bench.options["gripper"] = {"driver": driver, "port": str(gripper.path)}
        yield bench
