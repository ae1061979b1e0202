"""Telling the learner which sequences will never come, as fast as it takes them."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.messages import Tombstone
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.send_window import SendWindow

MAX_UNDER_WAY = 2_000
"""Sequences that may be told and not yet acked. Asked for every second, they stay well below the
messages a second that a learner admits, and a learner that is stopped finds no more than these."""


class TombstoneSender:
    """Knows what of an outbox's tombstones has been told on this connection."""

    def __init__(self, outbox: Outbox, resend_after_s: float) -> None:
        """Begin with nothing told; after ``resend_after_s`` without an ack it is told again."""
        self._outbox = outbox
        self._window = SendWindow(resend_after_s)
        self.restart()

    def restart(self) -> None:
        """Consider nothing as told."""
        self._window.restart(MAX_UNDER_WAY)

    def next_messages(self, now_s: float) -> list[Tombstone]:
        """Return what is to be sent now, and note it as sent."""
        self._window.restart_if_stalled(now_s)
        if self._window.is_empty:
            # What was refused meanwhile may come before what was told last.
            self.restart()
        if not self._window.room:
            return []
        ranges = self._outbox.tombstones(after=self._window.cursor, limit=self._window.room)
        for gone in ranges:
            for sequence in range(gone.sequence, gone.last_sequence + 1):
                self._window.add(sequence, 1, now_s)
        return [
            Tombstone(
                spool_id=self._outbox.spool_id,
                sequence=gone.sequence,
                last_sequence=gone.last_sequence,
                reason=gone.reason,
            )
            for gone in ranges
        ]

    def take_ack(self, sequences: Iterable[int], now_s: float) -> None:
        """Note sequences as acked; others than tombstones are ignored."""
        self._window.remove(sequences, now_s)
