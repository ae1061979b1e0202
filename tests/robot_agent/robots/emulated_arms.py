"""Arms whose motors are emulated, byte for byte, behind a pseudo-terminal, in simulated time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_agent.arms.joint_arm import JointArm
from robot_agent.arms.joint_calibration import GripperScale, JointCalibration, JointScale
from robot_agent.arms.servo_identity import ServoIdentity
from robot_agent.config import SafetyConfig
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.robots.base import RobotSite
from robot_agent.robots.dynamixel_x import DynamixelX
from robot_agent.robots.so101 import SO101
from tests.emulators.dynamixel_servos import DynamixelLine, DynamixelServo
from tests.emulators.feetech_servos import FeetechLine, FeetechServo
from tests.emulators.pty_port import PtyPort
from tests.emulators.servo_line import EmulatedLine
from tests.emulators.servo_mechanics import FreeShafts, Shaft

STEP_S = 0.01
NEARLY_PARKED_RAD = {
    "so101": (-1.75, 0.07, -0.13, 1.55, -1.7),
    "wx200": (1.35, 0.2, -0.5, 1.85, -0.15),
}
"""Unfolding takes no time from there."""
JAW_OPEN_RAD = 1.7
MODELS = {"so101": 777, "wx200": 1020}
IDS = {"so101": (1, 2, 3, 4, 5, 6), "wx200": (1, 2, 4, 5, 6, 7)}


class LineClock:
    """Time that passes when somebody sleeps, and takes a line of motors along."""

    def __init__(self, line: EmulatedLine[Any]) -> None:
        self._line = line
        self._now_s = 0.0
        self.events: list[tuple[float, Callable[[], None]]] = []
        """Moments, and what is called then, once."""

    def monotonic_s(self) -> float:
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        left_s = max(0.0, duration_s)
        while left_s > 0:
            self._line.step(min(left_s, STEP_S))
            self._now_s += min(left_s, STEP_S)
            left_s -= STEP_S
            due = [event for event in self.events if event[0] <= self._now_s]
            self.events = [event for event in self.events if event not in due]
            for _, happen in due:
                happen()

    def in_s(self, delay_s: float, happen: Callable[[], None]) -> None:
        self.events.append((self._now_s + delay_s, happen))


@dataclass(kw_only=True)
class EmulatedArm:
    """What is at both ends of the cable."""

    driver: type[JointArm]
    arm: str
    site: RobotSite
    line: EmulatedLine[Any]
    port: PtyPort
    mechanics: FreeShafts
    clock: LineClock
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, **options: object) -> Any:
        both = {"port": str(self.port.path), **self.options, **options}
        return self.driver.open(both, self.site, self.clock)

    def hold(self) -> None:
        self.driver.hold({"port": str(self.port.path), **self.options}, self.site)

    def block_here(self, joint: int) -> None:
        """From now on this joint cannot leave where it is."""
        here_rad = self.positions_rad[joint]
        self.mechanics.blocks[IDS[self.arm][joint]] = (here_rad - 1e-3, here_rad + 1e-3)

    def is_held(self) -> bool:
        """Return whether the joints hold with limited torque where they are."""
        apart = np.abs(np.subtract(self.goals_rad, self.positions_rad)[:-1])
        torques = np.array(self.torques[:-1])
        limit = self.site.safety.hold_torque + 0.001
        return bool((apart < 0.005).all() and (torques > 0).all() and (torques <= limit).all())

    def uncalibrate(self) -> None:
        (self.site.state_folder / "joint_calibration.json").unlink()

    @property
    def positions_rad(self) -> list[float]:
        return [self.mechanics.shafts[one].position_rad for one in IDS[self.arm]]

    @property
    def goals_rad(self) -> list[float]:
        return [self.line.servos[one].drive().goal_rad for one in IDS[self.arm]]

    @property
    def torques(self) -> list[float]:
        """Of each motor, the limit; 0 where it is off."""
        drives = [self.line.servos[one].drive() for one in IDS[self.arm]]
        return [drive.max_torque if drive.is_on else 0.0 for drive in drives]


def calibration_of(arm: str) -> JointCalibration:
    """Return what ``calibrate`` would measure: the model as it is, one joint turning the other
    way, one with another zero.
    """
    joints = ArmModel.load(arm).joints
    scales = [
        JointScale(
            name=joint.name,
            direction=-1 if index == 1 else 1,
            zero_rad=0.05 if index == 2 else 0.0,
            lower_rad=max(joint.lower_rad, -2.9),
            upper_rad=min(joint.upper_rad, 2.9),
        )
        for index, joint in enumerate(joints)
    ]
    *servos, jaw = (
        ServoIdentity(servo_id=one, model=MODELS[arm], homing_offset=0) for one in IDS[arm]
    )
    return JointCalibration(
        arm=arm,
        joints=tuple(scales),
        gripper=GripperScale(closed_rad=0.1, open_rad=0.1 + JAW_OPEN_RAD),
        servos=tuple(servos),
        gripper_servo=jaw,
    )


def nearly_parked(calibration: JointCalibration) -> FreeShafts:
    """Return the shafts of an arm so calibrated, almost parked, with a jaw that has both ends."""
    start_rad = calibration.motors_from_joints(np.array(NEARLY_PARKED_RAD[calibration.arm]))
    mechanics = FreeShafts()
    for servo_id, position_rad in zip(IDS[calibration.arm], [*start_rad, 0.6], strict=True):
        mechanics.shafts[servo_id] = Shaft(position_rad=float(position_rad))
    jaw = calibration.gripper
    assert jaw is not None
    mechanics.blocks[IDS[calibration.arm][-1]] = (jaw.closed_rad, jaw.open_rad)
    return mechanics


@contextmanager
def emulated_so101(
    folder: Path, *, is_real_time: bool = False, **options: Any
) -> Iterator[EmulatedArm]:
    servos = [FeetechServo(servo_id=one) for one in IDS["so101"]]
    with _emulated(
        SO101, "so101", folder, servos, FeetechLine, 7.4, options, is_real_time=is_real_time
    ) as arm:
        yield arm


@contextmanager
def emulated_dynamixel(folder: Path, **options: Any) -> Iterator[EmulatedArm]:
    servos = [DynamixelServo(servo_id=one) for one in IDS["wx200"]]
    with _emulated(DynamixelX, "wx200", folder, servos, DynamixelLine, 12.0, options) as arm:
        yield arm


@contextmanager
def _emulated(
    driver: type[JointArm],
    arm: str,
    folder: Path,
    servos: list[Any],
    line_class: type[EmulatedLine[Any]],
    supply_v: float,
    options: dict[str, Any],
    *,
    is_real_time: bool = False,
) -> Iterator[EmulatedArm]:
    folder.mkdir(parents=True, exist_ok=True)
    calibration = calibration_of(arm)
    calibration.write(folder)
    mechanics = nearly_parked(calibration)
    line = line_class(servos, mechanics=mechanics, supply_v=supply_v, is_real_time=is_real_time)
    site = RobotSite(name="robot-7", state_folder=folder, safety=SafetyConfig())
    with PtyPort(line, folder / "port") as port:
        yield EmulatedArm(
            driver=driver,
            arm=arm,
            site=site,
            line=line,
            port=port,
            mechanics=mechanics,
            clock=LineClock(line),
            # The emulator shares a busy machine with whatever else runs.
            options={"reply_timeout_s": 0.5, **options},
        )
