"""Numbers and times as a person reads them."""

from __future__ import annotations

import datetime

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def counted(number: int, noun: str) -> str:
    """Return ``1 episode`` or ``2 episodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Return a time in the largest unit of which it has two at least."""
    fitting = (one for one in _UNITS if seconds >= 2 * one[0])
    unit_s, unit = next(fitting, (1, "s"))
    return f"{seconds / unit_s:.0f} {unit}"


def utc_text(time_ns: int) -> str:
    """Return a time of UTC to the second."""
    moment = datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")
