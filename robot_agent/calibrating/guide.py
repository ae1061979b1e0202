"""Guide: what a person is told and asked while a robot is calibrated."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

from protocol.errors import ConfigurationError
from robot_agent.arms.clock import Clock, SystemClock
from robot_agent.safety.emergency_stop import EmergencyStop

REFRESH_S = 0.2


class Guide:
    """Speaks on the terminal; with ``record_s`` it asks nobody and goes on by itself."""

    def __init__(
        self,
        record_s: float = 0.0,
        clock: Clock | None = None,
        emergency: EmergencyStop | None = None,
    ) -> None:
        """Prepare to speak.

        Args:
            record_s: how long a recording takes; 0 waits for Enter instead.
            clock: for recordings.
            emergency: what stops the robot, looking already: it has the terminal. None where nobody
                is asked, and nothing stops the robot.

        Raises:
            ConfigurationError: it is no length of time, or a person is to be asked, and there is
                no terminal.
        """
        if not (math.isfinite(record_s) and record_s >= 0):
            # Nobody would be waited for, and the arm let go at once.
            raise ConfigurationError(
                f"--record-seconds {record_s:g}: 0 waits for a person, else a number of seconds"
            )
        if record_s == 0 and not (emergency is not None and emergency.heeds_keys):
            raise ConfigurationError(
                "calibrate asks a person and needs a terminal; without one give --record-seconds"
            )
        self._record_s = record_s
        self._clock = clock or SystemClock()
        self._emergency = emergency
        self._entered = emergency.entered if emergency is not None and record_s == 0 else None
        """Set when a person has answered; None where nobody is asked."""
        self._shown_lines = 0
        self._shown_s = 0.0

    def say(self, text: str) -> None:
        """Tell something."""
        self._shown_lines = 0
        print(text, flush=True)

    def check(self) -> None:
        """Raise SafetyFault if the robot was stopped."""
        if self._emergency is not None:
            self._emergency.check()

    def confirm(self, text: str) -> None:
        """Ask for something to be done, and wait until it is.

        Raises:
            SafetyFault: the robot was stopped before or meanwhile.
        """
        self._begin(text)
        if self._entered is not None:
            print("  Then press Enter. ", end="", flush=True)
            self._entered.wait()
            self.check()

    def until_done(self, text: str) -> Callable[[], bool]:
        """Ask for something that takes time; return what says whether it is done.

        What is returned raises SafetyFault once the robot was stopped.
        """
        self._begin(text)
        end_s = self._clock.monotonic_s() + self._record_s
        entered = self._entered
        if entered is not None:
            self.say("  Press Enter when that is done.")

        def is_done() -> bool:
            self.check()
            return self._clock.monotonic_s() >= end_s if entered is None else entered.is_set()

        return is_done

    def _begin(self, text: str) -> None:
        """Say it; what was entered before is no answer to it."""
        if self._entered is not None:
            self._entered.clear()
        # After that: a stop sets it too.
        self.check()
        self.say(text)

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
