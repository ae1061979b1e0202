"""GcodeOptions: the table ``[robot.options]`` of a G-code arm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from protocol.configuration import Baud
from protocol.errors import ConfigurationError
from robot_agent.arms.arm_options import Opening, Parking, Place
from robot_agent.kinematics.arm_model import Mount
from robot_agent.robots.gcode_dialect import Firmware

Length = Annotated[float, msgspec.Meta(gt=0, le=3)]


@dataclass(frozen=True, kw_only=True, slots=True)
class GcodeOptions:
    """The defaults suit a uArm Swift Pro with firmware 4, standing behind the bin."""

    port: str
    """Path of the serial port, best one in ``/dev/serial/by-id``: it survives replugging."""
    baud: Baud = 115200
    firmware: Firmware = "uarm-4"
    """Which words the controller understands."""
    mount: Mount = field(default_factory=lambda: Mount(x_m=-0.20))
    """Where the zero of the controller's frame is in the base frame: x and y on the arm's vertical
    axis, z so that finger tips on the bin's floor read zero."""
    parking: Parking = field(default_factory=lambda: Parking(x_m=-0.14, y_m=0.20, z_m=0.14))
    """Where the hand waits out of the camera's view; its yaw is not used, the wrist stays."""
    clearance_m: Length = 0.12
    """Height of the finger tips above which the hand may leave the bin sideways."""
    reach_m: tuple[Length, Length] = (0.11, 0.31)
    """Nearest and farthest distance of the hand from the arm's vertical axis."""
    heights_m: tuple[Place, Place] = (-0.05, 0.15)
    """Lowest and highest place of the hand, frame of the controller."""
    half_turn_rad: Annotated[float, msgspec.Meta(gt=0, le=math.pi)] = math.pi / 2
    """How far the arm turns from straight ahead, either way."""
    wrist_direction: Literal[-1, 1] = 1
    """1 where a growing angle of the wrist's servo turns the hand to the left, seen from above."""
    is_wrist_carried: bool = True
    """Whether the hand turns with the arm, as on every palletiser; not so on a gantry."""
    gripper: dict[str, Any] | None = None
    """``driver = "module:Class"`` and that gripper's options, where it is a device of its own."""
    tool: Literal["gripper", "pump"] = "gripper"
    """What the controller itself switches, where there is no ``gripper``; uArm only."""
    tool_opening_m: Opening = 0.040
    """What an open tool is said to measure; measure yours."""
    tool_held_opening_m: Opening = 0.010
    """What a tool that holds something is said to measure; above label.min_opening_m."""
    tool_travel_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 2.0
    """How long the tool takes to open or close."""
    shuffle: str = ""
    """``module:function``: called between attempts with the robot, the hand out of view, to stir
    the bin; returns whether it did. "" for a bin that nobody touches."""

    def __post_init__(self) -> None:
        for name in ("reach_m", "heights_m"):
            low, high = getattr(self, name)
            if not low < high:
                raise ConfigurationError(f"{name}: {low} is not below {high}")
        if self.firmware == "marlin" and self.gripper is None:
            raise ConfigurationError(
                "gripper: firmware 'marlin' has no tool that it can ask; name a gripper of its "
                'own: gripper = {driver = "module:Class", port = …}'
            )
