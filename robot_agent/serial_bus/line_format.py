"""Lines of devices that speak in lines: what each one is, and their checksums.

A line is ASCII up to a newline. Where the device can, requests are numbered ``#12 G0 X1`` and the
answer repeats the number, ``$12 ok``, so that a late answer is never taken for another one's; and
lines are sealed by a checksum, ``…*5A``. What a device says unasked begins with ``@``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_NUMBERED = re.compile(r"\$(\d{1,6}) +(.*)")
_OK = re.compile(r"ok\b:? *(.*)", re.IGNORECASE)
_ERROR = re.compile(r"(E\d{1,3}\b.*|error\b.*)", re.IGNORECASE)
_ALARM = re.compile(r"(?:ALARM\b|!!)[: ]*(.*)", re.IGNORECASE)
_SEAL = re.compile(r"(.*)\*([0-9A-Fa-f]{2})")


class LineKind(StrEnum):
    """What a line from a device is."""

    OK = "ok"
    ERROR = "error"
    ALARM = "alarm"
    EVENT = "event"
    NOTE = "note"
    """Anything else; what comes before ``ok`` is part of the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line from a device, without its end and its seal."""

    kind: LineKind
    text: str
    """What follows ``ok``; all of an error or event."""
    number: int | None = None
    """Of the request that it answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The line that ended a request, and what the device said before it."""

    kind: LineKind
    """OK, ERROR or ALARM."""
    text: str
    notes: tuple[str, ...] = ()


def checksum(text: str) -> int:
    """Return the exclusive or of all characters, 0 to 255 for ASCII."""
    value = 0
    for byte in text.encode("ascii"):
        value ^= byte
    return value


def sealed(text: str) -> str:
    """Return ``text`` with its checksum."""
    return f"{text}*{checksum(text):02X}"


def unsealed(text: str) -> str | None:
    """Return what was sealed; None if the checksum is missing or wrong."""
    match = _SEAL.fullmatch(text)
    if match is None or checksum(match[1]) != int(match[2], 16):
        return None
    return match[1]


def parse_line(text: str) -> Line:
    """Say what a line is; every line is something."""
    number = None
    if match := _NUMBERED.fullmatch(text):
        number, text = int(match[1]), match[2]
    if text.startswith("@"):
        return Line(kind=LineKind.EVENT, text=text, number=number)
    if match := _OK.fullmatch(text):
        return Line(kind=LineKind.OK, text=match[1], number=number)
    if match := _ALARM.fullmatch(text):
        return Line(kind=LineKind.ALARM, text=match[1], number=number)
    if match := _ERROR.fullmatch(text):
        return Line(kind=LineKind.ERROR, text=match[1], number=number)
    return Line(kind=LineKind.NOTE, text=text, number=number)
