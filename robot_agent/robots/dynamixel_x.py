"""Arms of Dynamixel X motors: the WidowX-200 as it leaves its maker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from protocol.configuration import from_table
from robot_agent.arms.arm_options import ArmOptions, Opening, Parking, Voltage
from robot_agent.arms.arm_places import ARM_PLACES
from robot_agent.arms.assembly import ArmHardware, assemble, check_models
from robot_agent.arms.clock import Clock, SystemClock
from robot_agent.arms.dynamixel_servos import DynamixelServos
from robot_agent.arms.holding import hold_arm
from robot_agent.arms.joint_arm import JointArm
from robot_agent.arms.linkage import CrankJaws
from robot_agent.kinematics.arm_model import Mount
from robot_agent.robots.base import GripperModel, RobotSite
from robot_agent.serial_bus.dynamixel import DynamixelBus
from robot_agent.serial_bus.named_errors import named_errors
from robot_agent.serial_bus.port import SerialPort

JOINT_IDS = (1, 2, 4, 5, 6)
"""Waist, shoulder, elbow, wrist angle and rotation. The shoulder's second motor, 3, has 2 as its
secondary id: it obeys what 2 is told, and never answers to it."""
JAW_ID = 7
LINKAGE = CrankJaws(horn_m=0.014, rod_m=0.024, closed_m=0.015)
"""Lengths by the maker's motor configuration and model of the arm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamixelXOptions(ArmOptions):
    """``[robot.options]``."""

    mount: Mount = ARM_PLACES["wx200"].mount
    parking: Parking = ARM_PLACES["wx200"].parking
    min_voltage_v: Voltage = 10.0
    max_voltage_v: Voltage = 14.8
    max_opening_m: Opening = 0.044
    """Of the fingers as they are delivered."""


class DynamixelX(JointArm):
    """A driver; see JointArm for what it does."""

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite, clock: Clock | None = None) -> Self:
        """Connect to the motors; nothing moves yet.

        Raises:
            ConfigurationError: an option or the calibration is unusable, the port is in use, or a
                motor is of another series.
            RobotError: a motor does not answer.
        """
        parsed = _parse(options, site)
        joints, jaw = _servos(parsed)
        with named_errors(site.name):
            check_models(joints, jaw, is_jaw_used=parsed.gripper is None)
        hardware = ArmHardware(
            arm="wx200",
            servos=joints,
            jaw=jaw,
            linkage=LINKAGE,
            gripper=gripper_model(parsed.max_opening_m),
        )
        return assemble(cls, hardware, parsed, site, clock or SystemClock())

    @classmethod
    def hold(cls, options: Mapping[str, Any], site: RobotSite) -> None:
        """Hold arm and gripper still with limited torque, after their agent is gone.

        Raises:
            ConfigurationError: an option is unusable, or the port is in use.
            RobotError: a motor does not answer.
        """
        parsed = _parse(options, site)
        joints, jaw = _servos(parsed)
        hold_arm(joints, jaw, parsed, site)


def gripper_model(max_opening_m: float) -> GripperModel:
    """Return the shape of fingers, carriage and the gripper's motor, by the maker's drawing."""
    return GripperModel(
        max_opening_m=max_opening_m,
        body_boxes=np.array(
            [
                [[-0.020, -0.055, 0.045], [0.020, 0.055, 0.070]],
                [[-0.025, -0.025, 0.070], [0.025, 0.025, 0.150]],
            ]
        ),
        finger_box=np.array([[-0.010, 0.0, 0.0], [0.010, 0.010, 0.045]]),
    )


def _parse(options: Mapping[str, Any], site: RobotSite) -> DynamixelXOptions:
    with named_errors(site.name):
        return from_table(
            dict(options), DynamixelXOptions, name="Dynamixel X options", folder=Path()
        )


def _servos(options: DynamixelXOptions) -> tuple[DynamixelServos, DynamixelServos]:
    port = SerialPort(options.port, baud=options.baud)
    bus = DynamixelBus(port, reply_timeout_s=options.reply_timeout_s)
    return DynamixelServos(bus, JOINT_IDS), DynamixelServos(bus, [JAW_ID])
