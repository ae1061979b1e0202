"""A whole JointArm over shafts in this process: no bytes, no threads, no waiting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import SafetyFault
from robot_agent.arms.assembly import ArmHardware, assemble
from robot_agent.arms.joint_arm import JointArm
from robot_agent.arms.linkage import HingedJaw
from robot_agent.config import SafetyConfig
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.robots.base import RobotSite
from robot_agent.robots.so101 import SO101Options, gripper_model
from tests.emulators.servo_mechanics import FreeShafts
from tests.robot_agent.arms.shaft_servos import ShaftServos, SteppedClock
from tests.robot_agent.robots.emulated_arms import NEARLY_PARKED_RAD, calibration_of

PARKED_M = (0.20, 0.20, 0.20)
FOLDED_RAD = (0.3, -1.7, 1.65, 1.2, 0.1)
"""As the arm lies when nobody holds it."""
ABOVE_BIN = GripperPose(x_m=0.02, y_m=-0.03, z_m=0.10, yaw_rad=0.4)
LOW = GripperPose(x_m=0.02, y_m=-0.03, z_m=0.02, yaw_rad=0.4)


class StopForGood:
    """What an emergency stop is to a motion: its signs of life are refused."""

    def __init__(self, clock: SteppedClock) -> None:
        self._clock = clock
        self.is_pulled = False
        self.beats: list[float] = []

    def beat(self) -> None:
        if self.is_pulled:
            raise SafetyFault("robot-7 was stopped")
        self.beats.append(self._clock.monotonic_s())


@dataclass(kw_only=True)
class ArmOnShafts:
    arm: JointArm
    joints: ShaftServos
    jaw: ShaftServos
    mechanics: FreeShafts
    clock: SteppedClock
    site: RobotSite
    model: ArmModel
    stop: StopForGood

    @property
    def beats(self) -> list[float]:
        return self.stop.beats

    @property
    def joints_rad(self) -> NDArray[np.float64]:
        return calibration_of("so101").joints_from_motors(self.joints.positions_rad)

    def commanded_rad(self) -> NDArray[np.float64]:
        """float64[M, N]: every set point so far."""
        found = calibration_of("so101")
        return np.stack([found.joints_from_motors(one) for one in self.joints.commands])

    def tips_m(self) -> NDArray[np.float64]:
        """float64[M, 3]: where every set point so far puts the finger tips."""
        return np.stack([self.model.transform(one)[:3, 3] for one in self.commanded_rad()])


def apart_m(one: GripperPose, other: GripperPose) -> float:
    return float(np.linalg.norm(one.as_array()[:3] - other.as_array()[:3]))


def arm_on_shafts(
    folder: Path,
    *,
    start_rad: tuple[float, ...] = NEARLY_PARKED_RAD["so101"],
    safety: SafetyConfig | None = None,
    **options: object,
) -> ArmOnShafts:
    """Return an SO-101 that has not moved yet."""
    calibration = calibration_of("so101")
    calibration.write(folder)
    mechanics = FreeShafts()
    clock = SteppedClock(mechanics)
    joints = ShaftServos(range(1, 6), mechanics, clock)
    jaw = ShaftServos(range(6, 7), mechanics, clock)
    for servo_id, angle in enumerate(calibration.motors_from_joints(np.array(start_rad)), 1):
        mechanics.shafts[servo_id].position_rad = float(angle)
    mechanics.shafts[6].position_rad = 0.6
    assert calibration.gripper is not None
    mechanics.blocks[6] = (calibration.gripper.closed_rad, calibration.gripper.open_rad)
    stop = StopForGood(clock)
    site = RobotSite(
        name="robot-7",
        state_folder=folder,
        safety=safety or SafetyConfig(),
        beat=stop.beat,
    )
    hardware = ArmHardware(
        arm="so101",
        servos=joints,
        jaw=jaw,
        linkage=HingedJaw(length_m=0.08),
        gripper=gripper_model(0.08),
    )
    parsed = SO101Options(port="", **options)  # type: ignore[arg-type]
    return ArmOnShafts(
        arm=assemble(JointArm, hardware, parsed, site, clock),
        joints=joints,
        jaw=jaw,
        mechanics=mechanics,
        clock=clock,
        site=site,
        model=ArmModel.load("so101", mount=parsed.mount),
        stop=stop,
    )
