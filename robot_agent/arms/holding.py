"""Holding still: what every stop does to motors, whatever they were doing."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import numpy as np
from numpy.typing import NDArray

from protocol.errors import RobotError
from robot_agent.arms.arm_options import ArmOptions, hold_gripper_device
from robot_agent.arms.clock import SystemClock
from robot_agent.arms.servo_group import ServoGroup, ServoReadings
from robot_agent.robots.base import RobotSite
from robot_agent.serial_bus.named_errors import named_errors

SPEED_RAD_S, ACCELERATION_RAD_S2 = 1.0, 20.0
"""Slow: the goal is where the motor is, or was a moment ago."""
MAX_SAG_RAD = 0.08
"""What gravity may hold a joint below its goal."""
AT_REST_RAD_S = 0.05


def hold_still(servos: ServoGroup, torque: float) -> None:
    """Make where the motors are their goal, with ``torque`` (share) as the limit.

    Those that hold already keep their goal, or each stop would sink the arm by what its weight
    takes.

    Raises:
        RobotError: they do not answer.
    """
    # Before anything else, and once more when those that had let go hold again.
    with suppress(RobotError):
        stay_at(servos, _places_to_stay(servos.read()))
    servos.set_torque(True, torque)
    stay_at(servos, _places_to_stay(servos.read()))
    # Nobody acknowledges a goal: those that answer again have heard it, and say if one let go.
    servos.read()


def hold_arm(joints: ServoGroup, jaw: ServoGroup, options: ArmOptions, site: RobotSite) -> None:
    """Hold an arm and its gripper still, then let go of them: what a guard does.

    The jaw is held first: what it grips must not fall while the arm is on its way to rest. A
    gripper of its own port comes last: opening that may take seconds.

    Args:
        joints: of the arm.
        jaw: the motor on its bus, unless ``options`` name another gripper.
        options: the arm's.
        site: its name and limits.

    Raises:
        ConfigurationError: the gripper's driver or its options are unusable.
        RobotError: a motor or the gripper does not answer; the others are held all the same.
    """
    with named_errors(site.name), ExitStack() as parts:
        if options.gripper is not None:
            parts.callback(hold_gripper_device, options.gripper, site, SystemClock())
        parts.callback(joints.close)
        parts.callback(hold_still, joints, site.safety.hold_torque)
        if options.gripper is None:
            jaw.set_torque(True, site.safety.max_grip)


def _places_to_stay(readings: ServoReadings) -> NDArray[np.float64]:
    """Return float64[N]: the goals of those at rest near them, and where the others are."""
    sag_rad = np.abs(readings.goals_rad - readings.positions_rad)  # NaN for those that are off
    is_holding = (sag_rad <= MAX_SAG_RAD) & (np.abs(readings.velocities_rad_s) <= AT_REST_RAD_S)
    return np.where(is_holding, readings.goals_rad, readings.positions_rad)


def stay_at(servos: ServoGroup, positions_rad: NDArray[np.float64]) -> None:
    """Make positions_rad float64[N], where the motors are, their goal.

    Raises:
        RobotError: they do not answer.
    """
    servos.command(
        positions_rad,
        speeds_rad_s=np.full_like(positions_rad, SPEED_RAD_S),
        accelerations_rad_s2=np.full_like(positions_rad, ACCELERATION_RAD_S2),
    )
