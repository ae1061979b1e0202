"""Puts an arm together from what a driver knows of it, its options and its calibration."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

from protocol.errors import ConfigurationError
from robot_agent.arms.arm_motions import ArmMotions
from robot_agent.arms.arm_options import ArmOptions, load_shuffle, open_gripper_device
from robot_agent.arms.clock import Clock
from robot_agent.arms.hand_path import HandPaths
from robot_agent.arms.jaw_gripper import JawGripper
from robot_agent.arms.joint_arm import JointArm
from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.arms.joint_drive import JointDrive
from robot_agent.arms.linkage import Linkage
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.arms.servo_group import GripperMotor, ServoGroup
from robot_agent.arms.servo_watch import ServoWatch
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.kinematics.inverse import InverseKinematics
from robot_agent.robots.base import GripperModel, RobotSite

A = TypeVar("A", bound=JointArm)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmHardware:
    """What a driver knows of its arm."""

    arm: str
    """The kinematic model, unless the options name another."""
    servos: ServoGroup
    jaw: ServoGroup
    """The gripper's motor on the same bus."""
    linkage: Linkage
    gripper: GripperModel


class CheckedServos(ServoGroup, Protocol):
    """Motors that can be asked what they are."""

    def check_models(self) -> None:
        """See that every motor is there and is what it should be.

        Raises:
            ConfigurationError: one is of another model.
            RobotError: one does not answer.
        """
        ...


def check_models(joints: CheckedServos, jaw: CheckedServos, *, is_jaw_used: bool) -> None:
    """Ask the motors of an arm what they are; if one is wrong or silent, the bus is let go.

    Raises:
        ConfigurationError: one is of another model, or the port is in use.
        RobotError: one does not answer.
    """
    with ExitStack() as undo:
        undo.callback(joints.close)
        joints.check_models()
        if is_jaw_used:
            jaw.check_models()
        undo.pop_all()


def assemble(
    driver: type[A], hardware: ArmHardware, options: ArmOptions, site: RobotSite, clock: Clock
) -> A:
    """Return the arm, which has not moved yet; if that fails, its motors are let go.

    Raises:
        ConfigurationError: an option or the calibration is unusable, or belongs to another arm.
        RobotError: a gripper of its own does not answer.
    """
    with ExitStack() as undo:
        undo.callback(hardware.servos.close)
        shuffle = load_shuffle(options.shuffle) if options.shuffle else None
        calibration = JointCalibration.read(site.state_folder)
        limits_rad = calibration.limits_rad if calibration is not None else None
        arm = options.model or hardware.arm
        built = ArmModel.load(arm)
        _check(calibration, built, site)
        model = ArmModel.load(arm, mount=options.mount, limits_rad=limits_rad)
        motors = [joint.name for joint in built.joints]
        gate, watch = MotionGate(site.name), _watch(motors, options, site)
        gripper = _gripper(hardware, options, calibration, site, gate=gate, clock=clock)
        calibrated = None
        if calibration is not None:
            drive = JointDrive(
                hardware.servos,
                calibration,
                site.safety,
                watch=watch,
                gate=gate,
                clock=clock,
                beat=site.beat,
            )
            calibrated = _calibrated(model, drive, options, site)
        undo.pop_all()
    return driver(
        model=built,
        site=site,
        servos=hardware.servos,
        gripper=gripper,
        calibrated=calibrated,
        watch=watch,
        gate=gate,
        clock=clock,
        shuffle=shuffle,
    )


def _check(calibration: JointCalibration | None, model: ArmModel, site: RobotSite) -> None:
    if calibration is None:
        return
    names = [joint.name for joint in model.joints]
    if calibration.arm != model.name or [joint.name for joint in calibration.joints] != names:
        raise ConfigurationError(
            f"{site.name}: the calibration in {site.state_folder} is of the arm "
            f"{calibration.arm!r}, this is a {model.name!r}; run `robot-agent calibrate`"
        )


def _watch(
    motors: list[str], options: ArmOptions, site: RobotSite, *, may_overload: bool = False
) -> ServoWatch:
    return ServoWatch(
        site.name,
        motors,
        max_temperature_c=site.safety.max_temperature_c,
        voltage_v=(options.min_voltage_v, options.max_voltage_v),
        may_overload=may_overload,
    )


def _gripper(
    hardware: ArmHardware,
    options: ArmOptions,
    calibration: JointCalibration | None,
    site: RobotSite,
    *,
    gate: MotionGate,
    clock: Clock,
) -> GripperMotor:
    if options.gripper is not None:
        return open_gripper_device(options.gripper, site, clock)
    return JawGripper(
        hardware.jaw,
        calibration.gripper if calibration is not None else None,
        model=hardware.gripper,
        linkage=hardware.linkage,
        safety=site.safety,
        watch=_watch(["gripper"], options, site, may_overload=True),
        gate=gate,
        clock=clock,
        beat=site.beat,
    )


def _calibrated(
    model: ArmModel, drive: JointDrive, options: ArmOptions, site: RobotSite
) -> ArmMotions:
    inverse = InverseKinematics(model)
    middle_rad = (model.lower_rad + model.upper_rad) / 2
    parking = inverse.solve(options.parking.pose, near=middle_rad)
    if parking is None:
        nearest = inverse.nearest_reachable(options.parking.pose, near=middle_rad)
        raise ConfigurationError(
            f"{site.name}: parking {options.parking.pose} is out of the arm's reach; the nearest "
            f"that can be had is {nearest}"
        )
    return ArmMotions(
        drive,
        HandPaths(model, inverse, site.safety),
        model,
        parking_rad=parking.joints_rad,
        clearance_m=options.clearance_m,
        safety=site.safety,
    )
