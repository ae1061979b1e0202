"""Options that all jointed arms share, and how their gripper and hooks are loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from protocol.configuration import from_table
from protocol.episode import GripperPose
from protocol.errors import ConfigurationError
from robot_agent.arms.clock import Clock
from robot_agent.arms.servo_group import GripperDevice
from robot_agent.kinematics.arm_model import Mount
from robot_agent.robots.base import RobotSite
from robot_agent.serial_bus.named_errors import named_errors

T = TypeVar("T")

Place = Annotated[float, msgspec.Meta(ge=-3, le=3)]
Opening = Annotated[float, msgspec.Meta(gt=0, le=0.3)]
Voltage = Annotated[float, msgspec.Meta(gt=0, le=60)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parking:
    """Where the hand waits out of the camera's view of the bin, upright, base frame."""

    x_m: Place
    y_m: Place
    z_m: Place
    yaw_rad: Annotated[float, msgspec.Meta(ge=-7, le=7)] = 0.0

    @property
    def pose(self) -> GripperPose:
        """As a pose of the gripper."""
        return GripperPose(x_m=self.x_m, y_m=self.y_m, z_m=self.z_m, yaw_rad=self.yaw_rad)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmOptions:
    """What a jointed arm is opened with; a driver adds its defaults."""

    port: str
    """Path of the serial port, best one in ``/dev/serial/by-id``: it survives replugging."""
    baud: Annotated[int, msgspec.Meta(ge=1200, le=4_000_000)] = 1_000_000
    reply_timeout_s: Annotated[float, msgspec.Meta(ge=0.001, le=5)] = 0.02
    """For motors and adapter to begin an answer; each request is tried three times."""
    model: str = ""
    """Path of a kinematic model of one's own (.urdf), where the arm is not as its maker built it:
    with another gripper, or longer links. "" for the maker's."""
    mount: Mount
    """Where the arm's foot stands in the base frame, upright on the height z_m."""
    parking: Parking
    """Of the hand, out of the camera's view of the bin."""
    clearance_m: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.12
    """Height of the finger tips above which the hand may leave the bin sideways."""
    min_voltage_v: Voltage
    max_voltage_v: Voltage
    max_opening_m: Opening
    """How far the fingers open."""
    gripper: dict[str, Any] | None = None
    """``driver = "module:Class"`` and that gripper's options, where it is a device of its own; by
    default it is a motor on the arm's bus."""
    shuffle: str = ""
    """``module:function``: called between attempts with the robot, the hand out of view, to stir
    the bin; returns whether it did. "" for a bin that nobody touches."""

    def __post_init__(self) -> None:
        if not self.min_voltage_v < self.max_voltage_v:
            raise ConfigurationError(
                f"min_voltage_v {self.min_voltage_v} is not below max_voltage_v "
                f"{self.max_voltage_v}"
            )


def parse_options(options: Mapping[str, Any], into: type[T], site: RobotSite, *, name: str) -> T:
    """Check a driver's options; ``name`` is what robot.toml calls their table.

    Raises:
        ConfigurationError: one is missing, unknown or unusable.
    """
    with named_errors(site.name):
        return from_table(dict(options), into, name=name, folder=Path())


def open_gripper_device(table: dict[str, Any], site: RobotSite, clock: Clock) -> GripperDevice:
    """Connect to the gripper that an arm's option names.

    Raises:
        ConfigurationError: the driver is missing, cannot be loaded, or refuses its options.
        RobotError: the gripper does not answer.
    """
    driver = table.get("driver")
    if not isinstance(driver, str):
        raise ConfigurationError("gripper.driver: expected 'module:Class'")
    options = {key: value for key, value in table.items() if key != "driver"}
    device: type[GripperDevice] = _load(driver, "gripper.driver")
    return device.open(options, site, clock)


def hold_gripper_device(table: dict[str, Any], site: RobotSite, clock: Clock) -> None:
    """Hold still a gripper that an arm's option names, after its agent is gone.

    Raises:
        ConfigurationError, RobotError: as for ``open_gripper_device``.
    """
    gripper = open_gripper_device(table, site, clock)
    try:
        gripper.hold()
    finally:
        gripper.disconnect()


def load_shuffle(name: str) -> Any:  # noqa: ANN401 - a function from outside
    """Return the function that stirs the bin; see ``ArmOptions.shuffle``.

    Raises:
        ConfigurationError: it cannot be loaded.
    """
    return _load(name, "shuffle")


def _load(name: str, option: str) -> Any:  # noqa: ANN401 - a name from outside
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{option} {name!r}: {error}") from error
