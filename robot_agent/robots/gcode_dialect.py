"""The words in which a G-code controller is asked for motions, positions and a stop.

Three families are known: uArm Swift firmware 4 (made from grbl) and 3 (made from Marlin), and
plain Marlin. Lengths on the wire are millimetres, feeds millimetres per minute.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from robot_agent.serial_bus.line_format import Answer

Firmware = Literal["uarm-4", "uarm-3", "marlin"]

_NUMBER = r"(-?\d{1,7}(?:\.\d{1,9})?)"
_POSITION = re.compile(rf"\bX:?\s*{_NUMBER}\s+Y:?\s*{_NUMBER}\s+Z:?\s*{_NUMBER}(?![\d.])")
_VALUE = re.compile(rf"\bV{_NUMBER}(?![\d.])")
_UARM_BANNER = re.compile(rb"@1(?!\d)")
_VERSION = re.compile(r"\bV?(\d{1,3})\.\d+")


@dataclass(frozen=True, kw_only=True, slots=True)
class GcodeDialect:
    """One family of controllers."""

    is_numbered: bool
    """Whether requests carry a number that the answer repeats."""
    banner: re.Pattern[bytes]
    """Said unasked by a board that has started."""
    identify: str
    """Asks for the firmware."""
    major: int | None
    """What the firmware's version must begin with."""
    prepare: tuple[str, ...]
    """Switches the motors on where the arm is."""
    home: str | None
    """Finds the arm's zero, where it has to be found."""
    acceleration: str
    position: str
    finish: str | None
    """Answered when all motions are done; None where a motion's own answer says so."""
    still: str | None
    """Asks whether the arm moves: V1 or V0."""
    wrist: str
    """Tells the wrist's servo its angle, degrees."""
    wrist_angle: str | None
    """Asks for that angle; None if the controller cannot tell."""
    stop: bytes
    """Ends a motion at once, whatever is queued."""
    stop_capability: str | None
    """What the firmware must say of itself, or it reads a stop only when a motion has ended."""
    power: str | None
    """Asks whether the motors have their supply: V1 or V0."""

    def move(self, xyz_mm: tuple[float, float, float], feed_mm_min: float) -> str:
        """Return the command for a straight line."""
        x, y, z = xyz_mm
        return f"G1 X{x:.2f} Y{y:.2f} Z{z:.2f} F{max(1, int(feed_mm_min))}"


DIALECTS: dict[Firmware, GcodeDialect] = {
    "uarm-4": GcodeDialect(
        is_numbered=True,
        banner=_UARM_BANNER,
        identify="P2203",
        major=4,
        prepare=("M17",),
        home=None,
        acceleration="M204 A{mm_s2:.0f}",
        position="P2220",
        finish=None,
        still=None,
        wrist="G2202 N3 V{degrees:.1f} F100",
        wrist_angle="P2206 N3",
        stop=b"\x18",
        stop_capability=None,
        power="P2234",
    ),
    "uarm-3": GcodeDialect(
        is_numbered=True,
        banner=_UARM_BANNER,
        identify="P2203",
        major=3,
        prepare=("M17",),
        home=None,
        acceleration="M204 P{mm_s2:.0f} T{mm_s2:.0f} R{mm_s2:.0f}",
        position="P2220",
        finish=None,
        still="M2200",
        wrist="G2202 N3 V{degrees:.1f} F100",
        wrist_angle="P2206 N3",
        stop=b"M410\n",
        # Its motions are asked about, never waited for with an M400.
        stop_capability=None,
        power="P2234",
    ),
    "marlin": GcodeDialect(
        is_numbered=False,
        # Behind whatever else is on the line: a board without supply says anything.
        banner=re.compile(rb"start\s*$"),
        identify="M115",
        major=None,
        # Left to itself it lets go after two minutes without a motion, and keeps its wrong zero.
        prepare=("M17", "M84 S0", "G21", "G90"),
        home="G28",
        acceleration="M204 P{mm_s2:.0f} T{mm_s2:.0f}",
        position="M114",
        finish="M400",
        still=None,
        wrist="M280 P0 S{degrees:.0f}",
        wrist_angle=None,
        stop=b"M410\n",
        stop_capability="Cap:EMERGENCY_PARSER:1",
        power=None,
    ),
}

ERROR_WORDS = {
    "E20": "it does not know this command",
    "E21": "a parameter is wrong",
    "E22": "it cannot reach that position: make reach_m and heights_m of the options narrower",
    "E23": "its queue is full",
    "E24": "its motors have no supply: plug in the power brick and press its switch",
    "E25": "the operation failed",
    "E26": "not possible now",
}


def position_m(answer: Answer) -> tuple[float, float, float] | None:
    """Return x, y, z in metres, frame of the arm's foot; None if the answer has no position."""
    for text in (answer.text, *answer.notes):
        if match := _POSITION.search(text):
            x, y, z = (float(value) / 1000 for value in match.groups())
            return x, y, z
    return None


def value_of(answer: Answer) -> float | None:
    """Return the number of an answer such as ``V1``; None if it has none."""
    match = _VALUE.search(answer.text)
    return float(match[1]) if match else None


def major_version(answer: Answer) -> int | None:
    """Return the first number of a firmware's version; None if it tells none."""
    for text in (answer.text, *answer.notes):
        if match := _VERSION.search(text):
            return int(match[1])
    return None
