"""Robotiq 2F-85 and its like, by Modbus RTU, as the gripper of another arm.

``gripper = {driver = "robot_agent.robots.robotiq_2f85:Robotiq2F85", port = "/dev/…"}``
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import msgspec
import numpy as np

from protocol.configuration import Baud
from protocol.errors import ConfigurationError, RobotError
from robot_agent.arms.arm_options import Opening, parse_options
from robot_agent.arms.clock import Clock
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.robots.base import GripperModel, RobotSite
from robot_agent.robots.robotiq_status import (
    FAULTS,
    HARMLESS_FAULTS,
    RobotiqStatus,
    Stage,
    fault_error,
    parse_status,
)
from robot_agent.serial_bus.modbus import ModbusPort
from robot_agent.serial_bus.port import SerialPort

logger = logging.getLogger(__name__)

STATUS_ADDRESS, ACTION_ADDRESS = 0x07D0, 0x03E8
ACTIVATE, GO = 0x01, 0x08
OPEN, CLOSED = 0, 255
ACTIVATION_S, MOTION_S = 12.0, 7.0
"""The slowest stroke takes 4.3 s, an activation two strokes at most."""
POLL_S = 0.02
SLOWEST_M_S, FASTEST_M_S = 0.020, 0.150
"""Of the opening, at speed 0 and 255."""

_Reading = Annotated[int, msgspec.Meta(ge=0, le=255)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotiqOptions:
    """The table ``gripper`` of robot.toml, without its driver."""

    port: str
    """The adapter's path; one in /dev/serial/by-id stays the same."""
    baud: Baud = 115200
    slave: Annotated[int, msgspec.Meta(ge=1, le=247)] = 9
    stroke_m: Opening = 0.085
    """Opening between the finger tips when open."""
    open_reading: _Reading = 3
    """Position that it reports when open."""
    closed_reading: _Reading = 230
    """Position that it reports when closed on nothing; thicker tips read less."""

    def __post_init__(self) -> None:
        if self.closed_reading - self.open_reading < 50:
            raise ConfigurationError(
                f"gripper.closed_reading {self.closed_reading} is not at least 50 above "
                f"gripper.open_reading {self.open_reading}"
            )


class Robotiq2F85:
    """A GripperMotor of its own port. It activates itself before its first motion: the fingers
    then open and close fully, once. Motions from one thread; ``hold`` from any.
    """

    def __init__(
        self, registers: ModbusPort, options: RobotiqOptions, site: RobotSite, clock: Clock
    ) -> None:
        self._registers = registers
        self._options = options
        self._site = site
        self._clock = clock
        self._gate = MotionGate(site.name)

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite, clock: Clock) -> Self:
        """Connect to the gripper; nothing moves yet.

        Raises:
            ConfigurationError: an option is unknown or unusable, or the port is in use.
            RobotError: the gripper does not answer.
        """
        parsed = parse_options(options, RobotiqOptions, site, name="gripper")
        port = SerialPort(parsed.port, baud=parsed.baud, monotonic_s=clock.monotonic_s)
        registers = ModbusPort(port, slave=parsed.slave, name=site.name)
        registers.open()
        gripper = cls(registers, parsed, site, clock)
        try:
            gripper.status()
        except RobotError:
            registers.close()
            raise
        return gripper

    @property
    def model(self) -> GripperModel:
        """The gripper's data sheet."""
        return GripperModel(
            max_opening_m=self._options.stroke_m,
            body_boxes=np.array([[[-0.032, -0.075, 0.055], [0.032, 0.075, 0.150]]]),
            finger_box=np.array([[-0.011, 0.0, 0.0], [0.011, 0.014, 0.055]]),
        )

    def open_fully(self) -> float:
        """Open until the fingers stop; return the measured opening in metres."""
        return self._go(OPEN)

    def close(self) -> float:
        """Close with the site's ``max_grip`` until the fingers stop; return the measured opening
        in metres. It goes on gripping.
        """
        return self._go(CLOSED)

    def opening_m(self) -> float:
        """Measure the opening now, metres."""
        return self._opening_m(self.status())

    def hold(self) -> None:
        """Stop fingers that move; those that grip go on gripping."""
        with self._gate.stopping():
            status = self.status()
            if status.is_active and status.is_moving:
                self._write(ACTIVATE, status.requested)
            elif status.stage == Stage.ACTIVATING:
                self._write(0, OPEN)

    def disconnect(self) -> None:
        """Let go of the port; the gripper stays as it is. May be called twice."""
        self._registers.close()

    def status(self) -> RobotiqStatus:
        """Read what the gripper says of itself. Raises RobotError if it does not answer."""
        return parse_status(self._registers.read_registers(STATUS_ADDRESS, 3))

    def _go(self, position: int) -> float:
        """Move to ``position``, 0 to 255, until there or stopped by something."""
        self._gate.start_motion()
        self._site.beat()
        self._be_active()
        with self._gate.passing():
            self._write(ACTIVATE | GO, position)
        end_s = self._clock.monotonic_s() + MOTION_S
        while True:
            status = self._checked_status()
            if not (status.is_active and status.goes_to_position):
                raise RobotError(
                    f"{self._site.name}: Robotiq gripper ended its motion at {status.position} "
                    "because it lost its supply for a moment, or another program stopped it"
                )
            # Before the echo is right, the rest still speaks of the motion before this one.
            if status.requested == position and not status.is_moving:
                return self._opening_m(status)
            self._wait(end_s, f"reach position {position}", MOTION_S, status)

    def _be_active(self) -> None:
        """Activate it unless it is; after a fault that this cures, again."""
        status = self.status()
        fault = FAULTS.get(status.fault)
        if fault is not None and fault.needs_a_person:
            raise fault_error(self._site.name, status.fault)
        if status.is_active and (not status.fault or status.fault in HARMLESS_FAULTS):
            return
        logger.info("gripper is activated", extra={"robot": self._site.name, "fault": status.fault})
        with self._gate.passing():
            # The bit must rise: that is what clears faults.
            self._write(0, OPEN)
            self._write(ACTIVATE, OPEN)
        end_s = self._clock.monotonic_s() + ACTIVATION_S
        while not (status := self._checked_status()).is_active:
            self._wait(end_s, "become active", ACTIVATION_S, status)

    def _checked_status(self) -> RobotiqStatus:
        """Return the status. Raises RobotError after a stop; this or SafetyFault for a fault."""
        with self._gate.passing():
            status = self.status()
        if status.fault and status.fault not in HARMLESS_FAULTS:
            raise fault_error(self._site.name, status.fault)
        return status

    def _wait(self, end_s: float, what: str, limit_s: float, status: RobotiqStatus) -> None:
        """Let a moment pass. Raises RobotError after the deadline."""
        if self._clock.monotonic_s() > end_s:
            raise RobotError(
                f"{self._site.name}: Robotiq gripper did not {what} within {limit_s:.0f} s (at "
                f"{status.position}, gSTA {status.stage}, gOBJ {status.contact}): check its 24 V "
                "supply and that nothing blocks the fingers"
            )
        self._site.beat()
        self._clock.sleep(POLL_S)

    def _write(self, action: int, position: int) -> None:
        safety = self._site.safety
        stroke_share = (safety.max_speed_m_s - SLOWEST_M_S) / (FASTEST_M_S - SLOWEST_M_S)
        # Rounded down: a limit is not exceeded, not even a little.
        speed = int(255 * min(max(stroke_share, 0.0), 1.0))
        force = int(255 * safety.max_grip)
        self._registers.write_registers(ACTION_ADDRESS, (action << 8, position, speed << 8 | force))

    def _opening_m(self, status: RobotiqStatus) -> float:
        options = self._options
        closed = options.closed_reading
        share = (closed - status.position) / (closed - options.open_reading)
        return options.stroke_m * min(max(share, 0.0), 1.0)
