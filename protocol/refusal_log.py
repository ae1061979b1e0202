"""Saying what was refused, without letting whoever is refused fill the disk with it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from protocol.limits import LOGGED_REFUSALS, LOGGING_PERIOD_S

STRANGER = "a stranger"
"""One name for all who are not enrolled: they may make as many keys as they like."""


@dataclass(slots=True)
class _Repeats:
    began_s: float
    level: int
    count: int = 0
    newest: str = ""


class RefusalLog:
    """Logs the first few refusals of a peer for one reason, and counts the rest. Any thread.

    Whatever else a peer can cause as often as it likes goes through ``note``, under the same limit.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._repeats: dict[tuple[str, str], _Repeats] = {}

    def warn(self, who: str, code: str, reason: str) -> None:
        """Say that something was refused.

        Args:
            who: the name that the peer is enrolled under, or STRANGER; never what a peer may
                choose.
            code: the kind of refusal.
            reason: in words; may hold what the peer sent.
        """
        self.note(logging.WARNING, who, f"is refused ({code})", reason)

    def note(self, level: int, who: str, what: str, text: str) -> None:
        """Say that a peer did, or met with, something.

        Args:
            level: of the lines in the log.
            who: as for ``warn``.
            what: it did, in words that are the same every time.
            text: may hold what the peer sent.
        """
        with self._lock:
            repeats = self._repeats.setdefault((who, what), _Repeats(self._clock(), level))
            repeats.count += 1
            repeats.newest = printable(text)
            if repeats.count <= LOGGED_REFUSALS:
                self._logger.log(level, "%s %s: %s", who, what, repeats.newest)

    def say_counts(self) -> None:
        """Say how much was not logged; to be called every few seconds."""
        with self._lock:
            now_s = self._clock()
            for (who, what), repeats in list(self._repeats.items()):
                if now_s - repeats.began_s < LOGGING_PERIOD_S:
                    continue
                del self._repeats[who, what]
                if (silent := repeats.count - LOGGED_REFUSALS) > 0:
                    self._logger.log(
                        repeats.level,
                        "%s %s, %d more times in %.0f s, the last time: %s",
                        *(who, what, silent, now_s - repeats.began_s, repeats.newest),
                    )


def printable(text: str) -> str:
    """Return ``text`` on one line, without what could steer a terminal or fake a line of a log."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
