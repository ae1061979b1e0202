"""What a Robotiq 2F-85 says of itself in its three input registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from protocol.errors import RobotError, SafetyFault


class Stage(IntEnum):
    """gSTA: how far activation is."""

    RESET = 0
    ACTIVATING = 1
    ACTIVE = 3


class Contact(IntEnum):
    """gOBJ: what the fingers do."""

    MOVING = 0
    STOPPED_OPENING = 1
    STOPPED_CLOSING = 2
    AT_POSITION = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotiqFault:
    """One value of gFLT."""

    words: str
    remedy: str
    needs_a_person: bool = False
    """Then it is a safety fault."""


FAULTS = {
    0x05: RobotiqFault(words="action delayed: activation comes first", remedy="it is activated"),
    0x07: RobotiqFault(words="not activated", remedy="it is activated"),
    0x08: RobotiqFault(
        words="over its temperature limit of 85 C",
        remedy="let it cool below 80 C and find out what it pressed against",
        needs_a_person=True,
    ),
    0x09: RobotiqFault(words="heard nothing for a second", remedy="none needed"),
    0x0A: RobotiqFault(words="supply below 21.6 V", remedy="check the 24 V supply and its cable"),
    0x0B: RobotiqFault(
        words="automatic release in progress",
        remedy="somebody asked for it; clear the cause, then resume",
        needs_a_person=True,
    ),
    0x0C: RobotiqFault(
        words="internal fault",
        remedy="switch it off and on; if it stays, ask Robotiq",
        needs_a_person=True,
    ),
    0x0D: RobotiqFault(
        words="activation failed: the fingers met something", remedy="free the fingers"
    ),
    0x0E: RobotiqFault(words="overcurrent", remedy="free the fingers, or lower safety.max_grip"),
    0x0F: RobotiqFault(
        words="automatic release completed",
        remedy="somebody asked for it; clear the cause, then resume",
        needs_a_person=True,
    ),
}
HARMLESS_FAULTS = frozenset({0x05, 0x07, 0x09})
"""They stop nothing: activation goes on or is yet to come, or an agent was busy elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotiqStatus:
    """The status registers, taken apart."""

    is_asked_to_be_active: bool
    """gACT."""
    goes_to_position: bool
    """gGTO; False after a stop."""
    stage: int
    """gSTA; see Stage."""
    contact: int
    """gOBJ; see Contact. Only valid while it goes to a position."""
    fault: int
    """gFLT; 0 is none."""
    requested: int
    """gPR, 0 to 255: echo of the position asked for."""
    position: int
    """gPO, 0 to 255: 0 is open."""
    current_a: float

    @property
    def is_active(self) -> bool:
        """Whether it can move."""
        return self.is_asked_to_be_active and self.stage == Stage.ACTIVE

    @property
    def is_moving(self) -> bool:
        """Whether the fingers are on their way to the position asked for."""
        return self.goes_to_position and self.contact == Contact.MOVING


def parse_status(registers: Sequence[int]) -> RobotiqStatus:
    """Take apart the three registers from 0x07D0 on."""
    status, second, third = registers
    return RobotiqStatus(
        is_asked_to_be_active=bool(status >> 8 & 0x01),
        goes_to_position=bool(status >> 8 & 0x08),
        stage=status >> 12 & 0x03,
        contact=status >> 14 & 0x03,
        fault=second >> 8 & 0x0F,
        requested=second & 0xFF,
        position=third >> 8 & 0xFF,
        current_a=(third & 0xFF) * 0.01,
    )


def fault_error(robot: str, fault: int) -> RobotError:
    """Return what to raise for a fault: SafetyFault where only a person may resume."""
    known = FAULTS.get(fault, RobotiqFault(words="unknown fault", remedy="see its manual"))
    kind = SafetyFault if known.needs_a_person else RobotError
    return kind(f"{robot}: Robotiq gripper: {known.words} (gFLT 0x{fault:02X}): {known.remedy}")
