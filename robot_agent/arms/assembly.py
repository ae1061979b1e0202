"""Puts an arm together from what a driver knows of it, its options and its calibration."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from protocol.errors import ConfigurationError
from robot_agent.arms.arm_motions import ArmMotions
from robot_agent.arms.arm_options import (
    ArmOptions,
    load_shuffle,
    open_gripper_device,
    parse_options,
)
from robot_agent.arms.clock import Clock, SystemClock
from robot_agent.arms.hand_path import HandPaths
from robot_agent.arms.holding import hold_arm
from robot_agent.arms.jaw_gripper import JawGripper
from robot_agent.arms.joint_arm import JointArm
from robot_agent.arms.joint_calibration import JointCalibration
from robot_agent.arms.joint_drive import JointDrive
from robot_agent.arms.linkage import Linkage
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.arms.servo_group import GripperMotor, ServoGroup
from robot_agent.arms.servo_identity import check_identities
from robot_agent.arms.servo_watch import ServoWatch
from robot_agent.kinematics.arm_model import ArmModel
from robot_agent.kinematics.inverse import InverseKinematics
from robot_agent.robots.base import GripperModel, RobotSite
from robot_agent.serial_bus.named_errors import named_errors

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=JointArm)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmHardware:
    """What a driver knows of its arm, and the motors that it reaches it by."""

    arm: str
    """The kinematic model, unless the options name another."""
    servos: ServoGroup
    jaw: ServoGroup
    """The gripper's motor on the same bus."""
    linkage: Linkage
    gripper: GripperModel


class BusArm(JointArm, ABC):
    """A JointArm whose motors are on one bus, opened and held; a driver says which ones."""

    options: ClassVar[type[ArmOptions]]
    """``[robot.options]``."""

    @staticmethod
    @abstractmethod
    def hardware(options: ArmOptions) -> ArmHardware:
        """Return what the options describe; nothing is sent to it yet."""

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite, clock: Clock | None = None) -> Self:
        """Connect to the motors; nothing moves yet.

        Raises:
            ConfigurationError: an option or the calibration is unusable, the port is in use, or a
                motor is of another model.
            RobotError: a motor does not answer.
        """
        parsed = parse_options(options, cls.options, site, name="robot.options")
        return assemble(cls, cls.hardware(parsed), parsed, site, clock or SystemClock())

    @classmethod
    def hold(cls, options: Mapping[str, Any], site: RobotSite) -> None:
        """Hold arm and gripper still with limited torque, after their agent is gone.

        Raises:
            ConfigurationError: an option is unusable, or the port is in use.
            RobotError: a motor does not answer.
        """
        parsed = parse_options(options, cls.options, site, name="robot.options")
        hardware = cls.hardware(parsed)
        hold_arm(hardware.servos, hardware.jaw, parsed, site)


def assemble(
    driver: type[A], hardware: ArmHardware, options: ArmOptions, site: RobotSite, clock: Clock
) -> A:
    """Return the arm, which has not moved yet; if that fails, its motors are let go.

    Raises:
        ConfigurationError: an option or the calibration is unusable, or belongs to another arm or
            to other motors; or a motor is of another model.
        RobotError: a motor or a gripper of its own does not answer.
    """
    with ExitStack() as undo:
        undo.callback(hardware.servos.close)
        with named_errors(site.name):
            hardware.servos.check_models()
            if options.gripper is None:
                hardware.jaw.check_models()
        shuffle = load_shuffle(options.shuffle) if options.shuffle else None
        calibration = JointCalibration.read(site.state_folder)
        limits_rad = calibration.limits_rad if calibration is not None else None
        arm = options.model or hardware.arm
        built = ArmModel.load(arm)
        _check(calibration, built, site)
        if calibration is not None:
            _check_motors(calibration, hardware, options, site)
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


def _check_motors(
    calibration: JointCalibration, hardware: ArmHardware, options: ArmOptions, site: RobotSite
) -> None:
    """See that the motors are those that were calibrated; see ``check_identities``."""
    names = [f"joint {joint.name}" for joint in calibration.joints]
    with named_errors(site.name):
        check_identities(calibration.servos, hardware.servos, names)
        if options.gripper is None and calibration.gripper_servo is not None:
            check_identities((calibration.gripper_servo,), hardware.jaw, ["gripper"])
    if not calibration.knows_its_servos:
        logger.warning(
            "%s: its calibration does not say which servos it was measured with: one that is "
            "changed goes unnoticed; run robot-agent calibrate when it suits",
            site.name,
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
        name=site.name,
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
