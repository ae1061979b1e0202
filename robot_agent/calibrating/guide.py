"""Guide: what a person is told and asked while a robot is calibrated."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from threading import Event, Thread

from protocol.errors import ConfigurationError
from robot_agent.arms.clock import Clock, SystemClock

REFRESH_S = 0.2


class Guide:
    """Speaks on the terminal; with ``record_s`` it asks nobody and goes on by itself."""

    def __init__(self, record_s: float = 0.0, clock: Clock | None = None) -> None:
        """Prepare to speak.

        Args:
            record_s: how long a recording takes; 0 waits for Enter instead.
            clock: for recordings.

        Raises:
            ConfigurationError: it is no length of time, or a person is to be asked, and there is
                no terminal.
        """
        if not (math.isfinite(record_s) and record_s >= 0):
            # Nobody would be waited for, and the arm let go at once.
            raise ConfigurationError(
                f"--record-seconds {record_s:g}: 0 waits for a person, else a number of seconds"
            )
        if record_s == 0 and not sys.stdin.isatty():
            raise ConfigurationError(
                "calibrate asks a person and needs a terminal; without one give --record-seconds"
            )
        self._record_s = record_s
        self._clock = clock or SystemClock()
        self._shown_lines = 0
        self._shown_s = 0.0

    def say(self, text: str) -> None:
        """Tell something."""
        self._shown_lines = 0
        print(text, flush=True)

    def confirm(self, text: str) -> None:
        """Ask for something to be done, and wait until it is."""
        self.say(text)
        if self._record_s == 0:
            input("  Then press Enter. ")

    def until_done(self, text: str) -> Callable[[], bool]:
        """Ask for something that takes time; return what says whether it is done."""
        self.say(text)
        if self._record_s > 0:
            end_s = self._clock.monotonic_s() + self._record_s
            return lambda: self._clock.monotonic_s() >= end_s
        self.say("  Press Enter when that is done.")
        done = Event()

        def wait() -> None:
            sys.stdin.readline()
            done.set()

        Thread(target=wait, name="waiting for Enter", daemon=True).start()
        return done.is_set

    def show(self, lines: Sequence[str]) -> None:
        """Show figures that change, in place, a few times a second."""
        now_s = self._clock.monotonic_s()
        if not sys.stdout.isatty() or now_s - self._shown_s < REFRESH_S:
            return
        self._shown_s = now_s
        up = f"\x1b[{self._shown_lines}A" if self._shown_lines else ""
        sys.stdout.write(up + "".join(f"\x1b[2K{line}\n" for line in lines))
        sys.stdout.flush()
        self._shown_lines = len(lines)
