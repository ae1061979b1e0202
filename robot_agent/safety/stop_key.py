"""The keys that count in the terminal a robot is run from: space, or s, stops it; and Enter."""

from __future__ import annotations

import os
import select
import termios

STOP_KEYS, ENTER_KEYS = b" sS", b"\n\r"
_LOCAL_FLAGS, _CONTROL_CHARACTERS = 3, 6
"""Places in what termios tells of a terminal."""


class StopKey:
    """Takes keys as they are pressed, without Enter. Does nothing where there is no terminal."""

    def __init__(self, terminal: int = 0) -> None:
        """Prepare; ``open`` begins.

        Args:
            terminal: descriptor; standard input by default.
        """
        self._terminal = terminal
        self._before: list[int | list[bytes | int]] | None = None

    def open(self) -> bool:
        """Take keys from now on; return False where there is no terminal to take them from."""
        if not os.isatty(self._terminal) or not self._is_in_front():
            return False
        self._before = termios.tcgetattr(self._terminal)
        changed = termios.tcgetattr(self._terminal)
        # Ctrl-C and echo stay as they are: a terminal whose agent was killed is still usable.
        changed[_LOCAL_FLAGS] &= ~termios.ICANON
        changed[_CONTROL_CHARACTERS][termios.VMIN] = 1
        changed[_CONTROL_CHARACTERS][termios.VTIME] = 0
        termios.tcsetattr(self._terminal, termios.TCSANOW, changed)
        return True

    @property
    def is_open(self) -> bool:
        """Whether keys are taken."""
        return self._before is not None

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._terminal

    @property
    def awaited(self) -> int:
        """What to poll for now: in the background only the terminal's end, which always counts."""
        return select.POLLIN if self._is_in_front() else 0

    def typed(self) -> bytes:
        """Return what was typed, which must be there; nothing of what is another program's.

        When the terminal is gone, no more keys are taken.
        """
        try:
            if os.tcgetpgrp(self._terminal) != os.getpgrp():
                return b""  # to read it would suspend us
            typed = os.read(self._terminal, 256)
        except OSError:
            typed = b""
        if not typed:  # the terminal is gone
            self._before = None
        return typed

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._before is not None and self._is_in_front():
            termios.tcsetattr(self._terminal, termios.TCSANOW, self._before)
        self._before = None

    def _is_in_front(self) -> bool:
        try:
            return os.tcgetpgrp(self._terminal) == os.getpgrp()
        except OSError:
            return False
