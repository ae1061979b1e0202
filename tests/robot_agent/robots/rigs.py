"""The robots that the contract is held against, and what can be done to each of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.episode import GripperPose
from robot_agent.config import SafetyConfig
from robot_agent.robots.base import Robot, RobotSite
from robot_agent.robots.gcode_arm import GcodeArm
from robot_agent.robots.simulated import SimulatedRobot
from tests.emulators.arduino_gripper import EmulatedServoGripper
from tests.emulators.gcode_controller import EmulatedGcodeController
from tests.emulators.hurried_clock import HurriedClock
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
    in_a_motion: Callable[[Callable[[], None]], None]
    """Have something happen once, in the middle of the next motion."""
    is_held: Callable[[], bool]
    """Whether the motors hold the arm where it is."""


@dataclass(frozen=True, kw_only=True)
class JointCable(Cable):
    """What more a test may do to a jointed arm, in simulated time."""

    hold: Callable[[], None]
    """As a guard calls it, in another process than the agent's."""
    obstruct: Callable[[], None]
    """From now on something is in the arm's way."""
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
def simulated_so101(folder: Path) -> Iterator[Rig]:
    site = RobotSite(name="robot-7", state_folder=folder, safety=SafetyConfig())
    yield Rig(
        open=lambda **options: SimulatedRobot.open({"seed": 4, "arm": "so101", **options}, site),
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


@contextmanager
def so101_with_servo_gripper(folder: Path) -> Iterator[Rig]:
    folder.mkdir(parents=True, exist_ok=True)
    with PtyPort(EmulatedServoGripper(), folder / "gripper") as port:
        driver = "robot_agent.robots.servo_gripper:ServoGripper"
        gripper = {"driver": driver, "port": str(port.path)}
        with emulated_so101(folder, gripper=gripper) as arm:
            yield _of_arm(arm)


@contextmanager
def gcode(folder: Path) -> Iterator[Rig]:
    folder.mkdir(parents=True, exist_ok=True)
    controller = PausingController(hurry=HurriedClock.FACTOR)
    safety = SafetyConfig(max_joint_speed_rad_s=20.0)
    site = RobotSite(name="robot-7", state_folder=folder, safety=safety)
    with PtyPort(controller, folder / "port") as port:
        own = {"port": str(port.path), "tool_travel_s": 0.05, "heights_m": (-0.05, 0.2)}
        own["parking"] = {"x_m": -0.14, "y_m": 0.20, "z_m": 0.17}
        yield Rig(
            open=lambda **options: GcodeArm.open(own | options, site, HurriedClock()),
            above_bin=GripperPose(x_m=0.04, y_m=-0.03, z_m=0.12, yaw_rad=0.6),
            tolerance_m=0.001,
            cable=Cable(
                unplug=port.unplug,
                plug=port.plug,
                in_a_motion=controller.pause_for,
                is_held=lambda: controller.are_motors_on and not controller.is_moving,
            ),
        )


class PausingController(EmulatedGcodeController):
    """Its next motion stands still while something happens, so that this is in its middle."""

    _happen: Callable[[], None] | None = None

    def pause_for(self, happen: Callable[[], None]) -> None:
        self._happen = happen

    def _pass_time(self, now_s: float) -> None:
        if self.is_moving and self._happen is not None:
            self.hurry, happen, self._happen = 0.0, self._happen, None
            threading.Thread(target=self._go_on_after, args=[happen]).start()
        super()._pass_time(now_s)

    def _go_on_after(self, happen: Callable[[], None]) -> None:
        happen()
        self.hurry = HurriedClock.FACTOR


def _of_arm(arm: EmulatedArm) -> Rig:
    cable = JointCable(
        unplug=arm.port.unplug,
        plug=arm.port.plug,
        in_a_motion=lambda happen: arm.clock.in_s(0.5, happen),
        is_held=arm.is_held,
        hold=arm.hold,
        obstruct=lambda: arm.block_here(0),
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
    "simulated-so101": simulated_so101,
    "so101": so101,
    "dynamixel-x": dynamixel,
    "gcode": gcode,
    "so101-with-robotiq": so101_with_robotiq,
    "so101-with-servo-gripper": so101_with_servo_gripper,
}
JOINTED = ["so101", "dynamixel-x"]
WIRED = [*JOINTED, "gcode"]
