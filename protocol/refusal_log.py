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
class _Refusals:
    began_s: float
    count: int = 0
    newest: str = ""


class RefusalLog:
    """Logs the first few refusals of a peer for one reason, and counts the rest. Any thread."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._refusals: dict[tuple[str, str], _Refusals] = {}

    def warn(self, who: str, code: str, reason: str) -> None:
        """Say that something was refused.

        Args:
            who: the name that the peer is enrolled under, or STRANGER; never what a peer may
                choose.
            code: the kind of refusal.
            reason: in words; may hold what the peer sent.
        """
        with self._lock:
            refusals = self._refusals.setdefault((who, code), _Refusals(self._clock()))
            refusals.count += 1
            refusals.newest = printable(reason)
            if refusals.count <= LOGGED_REFUSALS:
                self._logger.warning("%s is refused (%s): %s", who, code, refusals.newest)

    def say_counts(self) -> None:
        """Say how many refusals were not logged; to be called every few seconds."""
        with self._lock:
            now_s = self._clock()
            for (who, code), refusals in list(self._refusals.items()):
                if now_s - refusals.began_s < LOGGING_PERIOD_S:
                    continue
                del self._refusals[who, code]
                if (silent := refusals.count - LOGGED_REFUSALS) > 0:
                    self._logger.warning(
                        "%s was refused (%s) %d more times in %.0f s, the last time: %s",
                        *(who, code, silent, now_s - refusals.began_s, refusals.newest),
                    )


def printable(text: str) -> str:
    """Return ``text`` on one line, without what could steer a terminal or fake a line of a log."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
