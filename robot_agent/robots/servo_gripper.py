"""A hobby servo with analogue feedback on an Arduino, as the gripper of another arm.

``gripper = {driver = "robot_agent.robots.servo_gripper:ServoGripper", port = "/dev/…"}``; the
firmware is in deploy/firmware/servo_gripper, its lines are described in docs/hardware.md.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Self

import msgspec
import numpy as np

from protocol.configuration import Baud
from protocol.errors import ConfigurationError, RobotError
from robot_agent.arms.arm_options import Opening, parse_options
from robot_agent.arms.clock import Clock
from robot_agent.arms.motion_gate import MotionGate
from robot_agent.robots.base import GripperModel, RobotSite
from robot_agent.serial_bus.line_format import Answer, LineKind
from robot_agent.serial_bus.lines import LinePort
from robot_agent.serial_bus.port import SerialPort

logger = logging.getLogger(__name__)

PROTOCOL = "servo-gripper 1"
ANSWER_S, BOOT_TRIES = 0.5, 8
"""Opening the port restarts most boards; they answer up to two seconds later."""
POLL_S = 0.03
STILL_COUNTS, STILL_POLLS = 3, 4
"""The servo follows its ramp late; it is there when its reading stays within so much so often."""
MARGIN_S = 3.0
_READINGS = re.compile(r"F(\d{1,4}) A(\d{1,5}) P(\d{1,4}) M([012])")

_Pulse = Annotated[int, msgspec.Meta(ge=500, le=2500)]
_Reading = Annotated[int, msgspec.Meta(ge=0, le=1023)]


class Motion(IntEnum):
    """What the servo does."""

    STILL = 0
    MOVING = 1
    GRIPPING = 2
    """It met something: the current reached its limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServoGripperOptions:
    """The table ``gripper`` of robot.toml, without its driver. The four ends are measured once."""

    port: str
    """The board's path; one in /dev/serial/by-id stays the same."""
    baud: Baud = 115200
    open_us: _Pulse = 1000
    closed_us: _Pulse = 2000
    """Pulses at which the fingers are open, and closed on nothing."""
    open_reading: _Reading = 150
    closed_reading: _Reading = 550
    """What the feedback reads there, 0 to 1023."""
    stroke_m: Opening = 0.060
    """Opening between the finger tips when open."""
    stall_current_a: Annotated[float, msgspec.Meta(gt=0, le=20)] = 1.2
    """What the servo draws when it is blocked; its data sheet says."""
    travel_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0
    """How long a stroke may take at least; slower is kinder to what is gripped."""

    def __post_init__(self) -> None:
        for name, least in (("us", 100), ("reading", 50)):
            opened, closed = getattr(self, f"open_{name}"), getattr(self, f"closed_{name}")
            if abs(opened - closed) < least:
                raise ConfigurationError(
                    f"gripper.open_{name} {opened} and gripper.closed_{name} {closed} are less "
                    f"than {least} apart"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServoGripperReadings:
    """What the board measures."""

    feedback: int
    """0 to 1023, of the servo's own potentiometer."""
    current_a: float
    pulse_us: int
    """Where the ramp is."""
    motion: Motion


def parse_readings(text: str) -> ServoGripperReadings | None:
    """Take apart the answer to ``read``; None if it is none."""
    match = _READINGS.fullmatch(text)
    if match is None:
        return None
    feedback, milliamperes, pulse_us, motion = (int(value) for value in match.groups())
    return ServoGripperReadings(
        feedback=feedback,
        current_a=milliamperes / 1000,
        pulse_us=pulse_us,
        motion=Motion(motion),
    )


class ServoGripper:
    """A GripperMotor of its own port. Motions from one thread; ``hold`` from any."""

    def __init__(
        self, lines: LinePort, options: ServoGripperOptions, site: RobotSite, clock: Clock
    ) -> None:
        self._lines = lines
        self._options = options
        self._site = site
        self._clock = clock
        self._gate = MotionGate(site.name)

    @classmethod
    def open(cls, options: Mapping[str, Any], site: RobotSite, clock: Clock) -> Self:
        """Connect to the board; nothing moves yet.

        Raises:
            ConfigurationError: an option is unknown or unusable, the port is in use, or the board
                runs something else.
            RobotError: the board does not answer.
        """
        parsed = parse_options(options, ServoGripperOptions, site, name="gripper")
        port = SerialPort(parsed.port, baud=parsed.baud, monotonic_s=clock.monotonic_s)
        lines = LinePort(port, name=site.name, is_numbered=True, is_sealed=True)
        gripper = cls(lines, parsed, site, clock)
        try:
            gripper._identify()
        except (RobotError, ConfigurationError):
            lines.close()
            raise
        return gripper

    @property
    def model(self) -> GripperModel:
        """A printed parallel gripper around a standard servo."""
        return GripperModel(
            max_opening_m=self._options.stroke_m,
            body_boxes=np.array([[[-0.022, -0.045, 0.055], [0.022, 0.045, 0.110]]]),
            finger_box=np.array([[-0.010, 0.0, 0.0], [0.010, 0.012, 0.055]]),
        )

    def open_fully(self) -> float:
        """Open until the fingers stop; return the measured opening in metres."""
        return self._opening_m(self.go_to(self._options.open_us))

    def close(self) -> float:
        """Close with the site's ``max_grip`` until the fingers stop; return the measured opening
        in metres. It goes on gripping.
        """
        return self._opening_m(self.go_to(self._options.closed_us))

    def opening_m(self) -> float:
        """Measure the opening now, metres."""
        return self._opening_m(self.read())

    def hold(self) -> None:
        """Stop fingers that move; those that grip go on gripping."""
        with self._gate.stopping():
            self._ask("hold")

    def disconnect(self) -> None:
        """Let go of the port; the servo stays as it is. May be called twice."""
        self._lines.close()

    def read(self) -> ServoGripperReadings:
        """Return what the board measures. Raises RobotError if it does not say."""
        answer = self._ask("read")
        readings = parse_readings(answer.text)
        if readings is None:
            raise RobotError(
                f"{self._site.name}: the gripper's board answered {answer.text!r} to 'read', which "
                "is no reading: flash deploy/firmware/servo_gripper again"
            )
        return readings

    def go_to(self, pulse_us: int) -> ServoGripperReadings:
        """Go to a pulse, 500 to 2500; return what the board measures once the fingers are still.

        Raises:
            RobotError: no answer, refused, stopped, or not still in time.
        """
        options = self._options
        width_us = abs(options.open_us - options.closed_us)
        limit_ma = int(1000 * options.stall_current_a * self._site.safety.max_grip)
        self._gate.start_motion()
        self._site.beat()
        with self._gate.passing():
            self._ask(f"goal {pulse_us} {max(1, int(width_us / options.travel_s))} {limit_ma}")
        end_s = self._clock.monotonic_s() + options.travel_s + MARGIN_S
        seen, still = -1, 0
        while True:
            with self._gate.passing():
                readings = self.read()
            still = still + 1 if abs(readings.feedback - seen) <= STILL_COUNTS else 0
            seen = readings.feedback
            if readings.motion != Motion.MOVING and still >= STILL_POLLS:
                return self._arrived(readings, pulse_us)
            if self._clock.monotonic_s() > end_s:
                raise RobotError(
                    f"{self._site.name}: the gripper is still moving after "
                    f"{options.travel_s + MARGIN_S:.1f} s (feedback {readings.feedback}): does the "
                    "feedback wire hang loose?"
                )
            self._site.beat()
            self._clock.sleep(POLL_S)

    def _identify(self) -> None:
        self._lines.open()
        answer = self._lines.ask("hello", timeout_s=ANSWER_S, tries=BOOT_TRIES)
        # What it said while it started is old news.
        self._lines.unasked()
        if answer.text != PROTOCOL:
            raise ConfigurationError(
                f"{self._site.name}: the board on {self._options.port} says {answer.text!r}, not "
                f"{PROTOCOL!r}: flash deploy/firmware/servo_gripper of this version"
            )

    def _arrived(self, readings: ServoGripperReadings, pulse_us: int) -> ServoGripperReadings:
        """Return the readings. Raises RobotError if somebody ended the motion on its way."""
        if readings.motion == Motion.STILL and readings.pulse_us != pulse_us:
            raise RobotError(
                f"{self._site.name}: the gripper ended its motion at {readings.pulse_us} us of "
                f"{pulse_us}: did its board restart, or another program stop it?"
            )
        return readings

    def _ask(self, command: str) -> Answer:
        answer = self._lines.ask(command, timeout_s=ANSWER_S)
        for line in self._lines.unasked():
            logger.warning("gripper speaks", extra={"robot": self._site.name, "line": line.text})
        if answer.kind != LineKind.OK:
            raise RobotError(
                f"{self._site.name}: the gripper's board refused {command!r}: {answer.text}"
            )
        return answer

    def _opening_m(self, readings: ServoGripperReadings) -> float:
        options = self._options
        whole = options.open_reading - options.closed_reading
        share = (readings.feedback - options.closed_reading) / whole
        return options.stroke_m * min(max(share, 0.0), 1.0)
