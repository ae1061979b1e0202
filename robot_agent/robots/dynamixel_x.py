"""Arms of Dynamixel X motors: the WidowX-200 as it leaves its maker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_agent.arms.arm_options import ArmOptions, Opening, Parking, Voltage
from robot_agent.arms.arm_places import ARM_PLACES
from robot_agent.arms.assembly import ArmHardware, BusArm
from robot_agent.arms.dynamixel_servos import DynamixelServos
from robot_agent.arms.linkage import CrankJaws
from robot_agent.kinematics.arm_model import Mount
from robot_agent.robots.base import GripperModel
from robot_agent.serial_bus.dynamixel import DynamixelBus
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


class DynamixelX(BusArm):
    """A driver; see JointArm for what it does."""

    options = DynamixelXOptions

    @staticmethod
    def hardware(options: ArmOptions) -> ArmHardware:
        """See BusArm."""
        port = SerialPort(options.port, baud=options.baud)
        bus = DynamixelBus(port, reply_timeout_s=options.reply_timeout_s)
        return ArmHardware(
            arm="wx200",
            servos=DynamixelServos(bus, JOINT_IDS),
            jaw=DynamixelServos(bus, [JAW_ID]),
            linkage=LINKAGE,
            gripper=gripper_model(options.max_opening_m),
        )


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
