"""What a G-code arm is made of: its controller and its gripper."""

from __future__ import annotations

from robot_agent.arms.arm_options import hold_gripper_device, open_gripper_device
from robot_agent.arms.clock import Clock
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.arms.servo_group import GripperMotor
from robot_agent.robots.base import RobotSite
from robot_agent.robots.gcode_controller import GcodeController
from robot_agent.robots.gcode_dialect import DIALECTS
from robot_agent.robots.gcode_options import GcodeOptions
from robot_agent.robots.switched_tool import TOOLS, SwitchedTool
from robot_agent.serial_bus.lines import LinePort
from robot_agent.serial_bus.port import SerialPort


def make_controller(
    options: GcodeOptions, site: RobotSite, gate: MotionGate, clock: Clock
) -> GcodeController:
    """Return the controller; its port is opened by the first question."""
    dialect = DIALECTS[options.firmware]
    port = SerialPort(options.port, baud=options.baud, monotonic_s=clock.monotonic_s)
    lines = LinePort(port, name=site.name, is_numbered=dialect.is_numbered, banner=dialect.banner)
    return GcodeController(lines, dialect, site=site, gate=gate, clock=clock)


def open_gripper(
    options: GcodeOptions, controller: GcodeController, site: RobotSite, clock: Clock
) -> GripperMotor | SwitchedTool:
    """Return the gripper of its own port, or else the tool that the controller switches.

    Raises:
        ConfigurationError: the gripper's driver or its options are unusable.
        RobotError: it does not answer.
    """
    if options.gripper is not None:
        return open_gripper_device(options.gripper, site, clock)
    return SwitchedTool(
        controller,
        TOOLS[options.tool],
        max_opening_m=options.tool_opening_m,
        held_opening_m=options.tool_held_opening_m,
        travel_s=options.tool_travel_s,
    )


def hold_gripper(options: GcodeOptions, site: RobotSite, clock: Clock) -> None:
    """Hold a gripper of its own port still; the controller's tool stays as it is anyway.

    Raises:
        ConfigurationError, RobotError: as for ``open_gripper``.
    """
    if options.gripper is not None:
        hold_gripper_device(options.gripper, site, clock)
