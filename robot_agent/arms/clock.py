"""The seam between a driver and time: an emulated arm runs as fast as the machine can."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a driver times and waits by."""

    def monotonic_s(self) -> float:
        """Return seconds since some moment; it never goes back."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Let ``duration_s`` pass; nothing or less returns at once."""
        ...


class SystemClock:
    """The machine's own time."""

    def monotonic_s(self) -> float:
        """Return seconds since some moment; it never goes back."""
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """Let ``duration_s`` pass; nothing or less returns at once."""
        if duration_s > 0:
            time.sleep(duration_s)
