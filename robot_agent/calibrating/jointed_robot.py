"""The seam to arms whose joints can be calibrated; needs nothing that only they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from robot_agent.arms.servo_group import GripperMotor, ServoGroup

if TYPE_CHECKING:
    from robot_agent.kinematics.arm_model import ArmModel


@runtime_checkable
class JointedRobot(Protocol):
    """A robot that lets its motors be reached, calibrated or not; JointArm is one."""

    model: ArmModel
    """Its kinematics, as it was built: no calibration narrows its limits."""

    @property
    def servos(self) -> ServoGroup:
        """The joints' motors."""
        ...

    @property
    def gripper_motor(self) -> GripperMotor:
        """What moves the fingers."""
        ...

    def stop(self) -> None:
        """Hold still where it is."""
        ...
