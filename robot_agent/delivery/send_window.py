"""Which sequences are under way to the learner, and how many more may follow."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from protocol.sockets import SILENCE_S

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = SILENCE_S
"""The longest wait for an ack; a connection without any sign of life is given up after as long."""


class SendWindow:
    """What was sent and is not yet acked, kept below a limit; in bytes, or in sequences."""

    def __init__(self, resend_after_s: float) -> None:
        """Begin with no room; without an ack for ``resend_after_s``, what is under way is lost."""
        self.cursor = 0
        """The highest sequence sent since the last restart."""
        self.limit = 0
        """What may be under way at most."""
        self._in_flight: dict[int, int] = {}
        self._size = 0
        self._moved_s = 0.0
        self._resend_after_s = self._wait_s = resend_after_s

    def restart(self, limit: int) -> None:
        """Consider nothing as sent; from now on ``limit`` may be under way."""
        self.limit = limit
        self._wait_s = self._resend_after_s
        self._forget_sent()

    def restart_if_stalled(self, now_s: float) -> bool:
        """Consider nothing as sent if nothing was answered for long; return True if so.

        Twice as long each time, up to LONGEST_WAIT_S, until all that is under way was answered:
        on a slow link the copies would hold up what they are copies of.
        """
        if not self._in_flight or now_s - self._moved_s <= self._wait_s:
            return False
        logger.warning("no ack for %.0f s: sending again", self._wait_s)
        self._wait_s = max(self._resend_after_s, min(2 * self._wait_s, LONGEST_WAIT_S))
        self._forget_sent()
        return True

    @property
    def is_empty(self) -> bool:
        """Nothing is under way."""
        return not self._in_flight

    def has_room(self, size: int) -> bool:
        """Say whether a record may be sent; one alone always may, however large."""
        return not self._in_flight or self._size + size <= self.limit

    @property
    def room(self) -> int:
        """What may still be sent."""
        return max(0, self.limit - self._size)

    def add(self, sequence: int, size: int, now_s: float) -> None:
        """Note a sequence as sent."""
        if not self._in_flight:
            self._moved_s = now_s
        self._in_flight[sequence] = size
        self._size += size
        self.cursor = sequence

    def remove(self, sequences: Iterable[int], now_s: float) -> None:
        """Note sequences as answered; ones that are not under way are ignored."""
        under_way = self._in_flight.keys() & set(sequences)
        if not under_way:
            return
        self._size -= sum(self._in_flight.pop(sequence) for sequence in under_way)
        self._moved_s = now_s
        if not self._in_flight:
            self._wait_s = self._resend_after_s

    def _forget_sent(self) -> None:
        self.cursor = 0
        self._in_flight.clear()
        self._size = 0
