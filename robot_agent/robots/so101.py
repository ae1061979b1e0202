"""SO-101 and SO-100: five Feetech STS3215 on one line, and a sixth for the jaw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_agent.arms.arm_options import ArmOptions, Opening, Parking, Voltage
from robot_agent.arms.arm_places import ARM_PLACES
from robot_agent.arms.assembly import ArmHardware, BusArm
from robot_agent.arms.feetech_servos import FeetechServos
from robot_agent.arms.linkage import HingedJaw
from robot_agent.kinematics.arm_model import Mount
from robot_agent.robots.base import GripperModel
from robot_agent.serial_bus.feetech import FeetechBus
from robot_agent.serial_bus.port import SerialPort

JOINT_IDS = (1, 2, 3, 4, 5)
"""Shoulder pan and lift, elbow flex, wrist flex and roll, as the makers number them."""
JAW_ID = 6
JAW_LENGTH_M = 0.080
"""From the jaw's hinge to its tip, by the makers' model (see kinematics/models/so101.urdf)."""
WORKING_OPENING_M = 0.060
"""The model's grasp point is in the middle of it: one jaw stands still, and half a turn of the
hand, which leaves that point where it is, must not take the opening away from what lies there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SO101Options(ArmOptions):
    """``[robot.options]``; the voltages suit the 7.4 V servos on a supply of 5 to 7.4 V."""

    mount: Mount = ARM_PLACES["so101"].mount
    """On the bin's long side, raised: upright, this arm reaches the whole bin from there only."""
    parking: Parking = ARM_PLACES["so101"].parking
    min_voltage_v: Voltage = 4.6
    max_voltage_v: Voltage = 8.4
    max_opening_m: Opening = WORKING_OPENING_M
    """To which the jaw opens. It could open further, but no longer evenly about the grasp point."""


class SO101(BusArm):
    """A driver; see JointArm for what it does."""

    options = SO101Options

    @staticmethod
    def hardware(options: ArmOptions) -> ArmHardware:
        """See BusArm."""
        port = SerialPort(options.port, baud=options.baud)
        bus = FeetechBus(port, reply_timeout_s=options.reply_timeout_s)
        return ArmHardware(
            arm="so101",
            servos=FeetechServos(bus, JOINT_IDS),
            jaw=FeetechServos(bus, [JAW_ID]),
            linkage=HingedJaw(length_m=JAW_LENGTH_M),
            gripper=gripper_model(options.max_opening_m),
        )


def gripper_model(max_opening_m: float) -> GripperModel:
    """Return the shape of the jaws and the wrist's motor above them, by the makers' drawing.

    The moving jaw is taken as going straight; it turns about its hinge.
    """
    return GripperModel(
        max_opening_m=max_opening_m,
        body_boxes=np.array(
            [
                [[-0.020, -0.060, 0.065], [0.020, 0.010, 0.105]],
                [[-0.020, -0.058, 0.105], [0.020, -0.002, 0.160]],
            ]
        ),
        finger_box=np.array([[-0.012, 0.0, 0.0], [0.012, 0.012, 0.065]]),
        still_finger_y_m=-WORKING_OPENING_M / 2,
    )
