"""Measures an arm's joints and gripper and keeps what was found in its state folder."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import msgspec

from protocol.errors import ConfigurationError
from robot_agent.arms.clock import Clock
from robot_agent.arms.jaw_gripper import JawGripper
from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.arms.servo_identity import identities
from robot_agent.calibrating.gripper_ends import find_ends
from robot_agent.calibrating.guide import Guide
from robot_agent.calibrating.joint_ranges import joint_scales, record_ranges
from robot_agent.calibrating.jointed_robot import JointedRobot

logger = logging.getLogger(__name__)

GRIPPER = "gripper"
"""Beside the names of joints: what may be reversed."""


def calibrate_joints(
    arm: JointedRobot,
    state_folder: Path,
    *,
    guide: Guide,
    clock: Clock,
    reverse: Collection[str] = (),
    endless: Collection[str] = (),
) -> JointCalibration:
    """Let a person move the limp arm; keep what its readings tell. The arm holds still at the end.

    Motors that keep their zeros themselves get new ones on the way. An older calibration is removed
    before: an arm whose calibration was cut short has none, and refuses to move.

    Raises:
        ConfigurationError: a joint did not move through its model's range, there is none of a name
            in ``reverse`` or ``endless``, or the state folder cannot be written.
        SafetyFault: the robot was stopped meanwhile.
        RobotError: a motor does not answer, or does not take its new zero.
    """
    model = arm.model
    names = [joint.name for joint in model.joints]
    unknown = set(reverse).difference(names, {GRIPPER}) | set(endless).difference(names)
    if unknown:
        raise ConfigurationError(
            f"no joint {', '.join(sorted(unknown))}; the {model.name} has {', '.join(names)} and "
            f"the {GRIPPER}"
        )
    before = _before(model.name, state_folder)

    def forget() -> None:
        JointCalibration.remove(state_folder)
        guide.say(
            "The motors get new zeros: from here on the arm has no calibration, and does not move, "
            "until all its joints are measured."
        )

    try:
        recorded = record_ranges(arm.servos, names, guide, clock, forget=forget)
        servos = identities(arm.servos)
    finally:
        arm.stop()
        guide.say("The motors hold again; you may let go.")
    found = JointCalibration(
        arm=model.name,
        joints=joint_scales(model.joints, recorded, reverse, endless),
        gripper=before.gripper if before is not None else None,
        servos=servos,
        gripper_servo=before.gripper_servo if before is not None else None,
    )
    found.write(state_folder)
    for joint in found.joints:
        guide.say(
            f"  {joint.name:16} zero at {joint.zero_rad:+.3f} rad, "
            f"{joint.lower_rad:+.2f} to {joint.upper_rad:+.2f} rad"
        )
    return found


def calibrate_gripper(
    arm: JointedRobot,
    state_folder: Path,
    *,
    guide: Guide,
    clock: Clock,
    reverse: Collection[str] = (),
) -> JointCalibration | None:
    """Let the gripper's motor find its ends; keep them. None for a gripper that knows its own.

    A motor that keeps its zero itself gets a new one; its older ends are removed before.

    Raises:
        ConfigurationError: the joints are not calibrated.
        SafetyFault: the robot was stopped meanwhile.
        RobotError: the motor does not answer, or the jaw does not move.
    """
    gripper = arm.gripper_motor
    if not isinstance(gripper, JawGripper):
        guide.say("The gripper is a device of its own that knows its ends.")
        return None
    before = _before(arm.model.name, state_folder)
    if before is None:
        raise ConfigurationError("the joints are not calibrated; begin with --only joints")
    guide.confirm("The gripper will close and open, slowly and weakly: leave it empty.")
    without = msgspec.structs.replace(before, gripper=None, gripper_servo=None)
    scale = find_ends(
        *(gripper.servos, clock),
        forget=lambda: without.write(state_folder),
        closes_upwards=GRIPPER in reverse,
        check=guide.check,
    )
    servo = next(iter(identities(gripper.servos)), None)
    found = msgspec.structs.replace(before, gripper=scale, gripper_servo=servo)
    found.write(state_folder)
    guide.say(f"  closed at {scale.closed_rad:+.3f} rad, open at {scale.open_rad:+.3f} rad")
    return found


def _before(arm: str, state_folder: Path) -> JointCalibration | None:
    """Return what was measured of this arm before, if it can be used."""
    try:
        found = JointCalibration.read(state_folder)
    except ConfigurationError as error:
        logger.warning("%s", error)
        return None
    return found if found is not None and found.arm == arm else None
