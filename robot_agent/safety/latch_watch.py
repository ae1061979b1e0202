"""The latch beside a robot at work: looked for and written on a thread of its own.

A disk may take seconds, or never answer: neither another way to stop the robot nor a stop that is
tried again waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from protocol.errors import ConfigurationError
from robot_agent.safety.stop_latch import Stop, StopLatch

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.04
"""How often files are looked for, and a stop that could not be written is tried again."""
CLOSE_WITHIN_S = 5.0
"""A disk that does not answer is waited for so long at the end."""


class LatchWatch:
    """Finds the stops that others leave in the state folder, and keeps our own there."""

    def __init__(self, name: str, latch: StopLatch, found: Callable[[Stop], None]) -> None:
        """Prepare; ``start`` begins to look.

        Args:
            name: of the robot.
            latch: in its state folder.
            found: called, on this thread, with what stops the robot.
        """
        self._name = name
        self._latch = latch
        self._found = found
        self._stop: Stop | None = None
        """To be kept."""
        self._kept = threading.Event()
        self._wanted = threading.Event()
        """There is a stop to keep, or nothing more to do."""
        self._is_closing = False
        self._has_complained = False
        self._thread = threading.Thread(target=self._run, name="stop-latch", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def keep(self, stop: Stop) -> None:
        """Have a stop on disk soon; one that is there already, such as the guard's, stays."""
        self._stop = stop
        self._wanted.set()

    @property
    def is_kept(self) -> bool:
        """Whether the stop is on disk: only a person lets the robot start again."""
        return self._kept.is_set()

    def await_kept(self, within_s: float) -> bool:
        """Wait for the stop to be on disk; return whether it is."""
        return self._kept.wait(within_s)

    def close(self) -> None:
        """Look no more; what is to be kept is tried once more, as long as the disk answers."""
        self._is_closing = True
        self._wanted.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_WITHIN_S)
        if self._stop is not None and not self.is_kept:
            logger.critical(
                "%s: the stop is not on disk: an agent that is started again would move it",
                self._name,
            )

    def _run(self) -> None:
        try:
            self._look()
        except Exception as error:
            # Nobody would see the file STOP any more.
            logger.exception("%s: its emergency stop fails", self._name)
            self._found(Stop.now(f"because its emergency stop failed: {error!r}"))
        while self._stop is not None and not self._try_to_keep(self._stop):
            if self._is_closing:
                return
            self._wanted.clear()
            self._wanted.wait(LOOK_EVERY_S)

    def _look(self) -> None:
        """Return when there is a stop to keep, or at the end."""
        while not self._wanted.wait(LOOK_EVERY_S):
            stop = self._latch.read()
            if stop is not None:
                self._found(stop)

    def _try_to_keep(self, stop: Stop) -> bool:
        try:
            if not self._latch.is_kept:
                self._latch.set(stop)
        except ConfigurationError as error:
            if not self._has_complained:
                self._has_complained = True
                logger.critical(
                    "%s: the stop is not kept on disk, it is tried again: %s", self._name, error
                )
            return False
        self._kept.set()
        return True
