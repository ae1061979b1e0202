"""The robots that the contract is held against, and what can be done to each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.episode import GripperPose
from robot_agent.config import SafetyConfig
from robot_agent.robots.base import Robot, RobotSite
from robot_agent.robots.simulated import SimulatedRobot
from tests.emulators.pty_port import PtyPort
from tests.emulators.robotiq import EmulatedRobotiq
from tests.robot_agent.robots.emulated_arms import (
    EmulatedArm,
    emulated_dynamixel,
    emulated_so101,
)


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A robot that can be opened, and how well it must do."""

    open: Callable[..., Robot]
    above_bin: GripperPose
    tolerance_m: float
    """Of a free motion; the driver's own promise."""
    opening_tolerance_m: float = 0.002
    cable: Cable | None = None
    """What its motors hang on; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Cable:
    """What a test may do to a robot that hangs on one."""

    unplug: Callable[[], None]
    plug: Callable[[], None]
    hold: Callable[[], None]
    """As a guard calls it, in another process than the agent's."""
    in_s: Callable[[float, Callable[[], None]], None]
    """Have something happen after a time of the robot's clock, in the middle of a motion."""
    obstruct: Callable[[], None]
    """From now on something is in the arm's way."""
    is_held: Callable[[], bool]
    """Whether every motor holds with limited torque where it is."""
    uncalibrate: Callable[[], None]


@contextmanager
def simulated(folder: Path) -> Iterator[Rig]:
    site = RobotSite(name="robot-7", state_folder=folder, safety=SafetyConfig())
    yield Rig(
        open=lambda **options: SimulatedRobot.open({"seed": 4, **options}, site),
        above_bin=GripperPose(x_m=0.04, y_m=-0.03, z_m=0.12, yaw_rad=0.6),
        tolerance_m=0.002,
    )


@contextmanager
def so101(folder: Path) -> Iterator[Rig]:
    with emulated_so101(folder) as arm:
        yield _of_arm(arm)


@contextmanager
def dynamixel(folder: Path) -> Iterator[Rig]:
    with emulated_dynamixel(folder) as arm:
        yield _of_arm(arm)


@contextmanager
def so101_with_robotiq(folder: Path) -> Iterator[Rig]:
    folder.mkdir(parents=True, exist_ok=True)
    with PtyPort(EmulatedRobotiq(), folder / "gripper") as port:
        driver = "robot_agent.robots.robotiq_2f85:Robotiq2F85"
        gripper = {"driver": driver, "port": str(port.path)}
        with emulated_so101(folder, gripper=gripper) as arm:
            yield _of_arm(arm)


def _of_arm(arm: EmulatedArm) -> Rig:
    cable = Cable(
        unplug=arm.port.unplug,
        plug=arm.port.plug,
        hold=arm.hold,
        in_s=arm.clock.in_s,
        obstruct=lambda: arm.block_here(0),
        is_held=arm.is_held,
        uncalibrate=arm.uncalibrate,
    )
    return Rig(
        open=arm.open,
        above_bin=GripperPose(x_m=0.02, y_m=-0.03, z_m=0.12, yaw_rad=0.6),
        tolerance_m=0.001,
        cable=cable,
    )


RIGS: dict[str, Callable[[Path], AbstractContextManager[Rig]]] = {
    "simulated": simulated,
    "so101": so101,
    "dynamixel-x": dynamixel,
    "so101-with-robotiq": so101_with_robotiq,
}
WIRED = [name for name in RIGS if name != "simulated"]
