"""Which records are under way to the learner, and how many more may follow."""

from __future__ import annotations

from collections.abc import Iterable


class SendWindow:
    """Bytes sent and not yet acked, kept below what the learner allows."""

    def __init__(self) -> None:
        self.cursor = 0
        """The highest sequence sent on this connection."""
        self.limit_bytes = 0
        """What may be under way at most."""
        self._in_flight: dict[int, int] = {}
        self._bytes = 0
        self._moved_s = 0.0

    def restart(self, limit_bytes: int) -> None:
        """Consider nothing as sent; from now on ``limit_bytes`` may be under way."""
        self.cursor = 0
        self.limit_bytes = limit_bytes
        self._in_flight.clear()
        self._bytes = 0

    def has_room(self, size_bytes: int) -> bool:
        """Say whether a record may be sent; one alone always may, however large."""
        return not self._in_flight or self._bytes + size_bytes <= self.limit_bytes

    @property
    def room_bytes(self) -> int:
        """What may still be sent."""
        return max(0, self.limit_bytes - self._bytes)

    def add(self, sequence: int, size_bytes: int, now_s: float) -> None:
        """Note a record as sent."""
        if not self._in_flight:
            self._moved_s = now_s
        self._in_flight[sequence] = size_bytes
        self._bytes += size_bytes
        self.cursor = sequence

    def remove(self, sequences: Iterable[int], now_s: float) -> None:
        """Note records as answered; ones that are not under way are ignored."""
        for sequence in sequences:
            self._bytes -= self._in_flight.pop(sequence, 0)
        self._moved_s = now_s

    def is_stalled(self, now_s: float, after_s: float) -> bool:
        """Say whether nothing was answered for ``after_s`` although records are under way."""
        return bool(self._in_flight) and now_s - self._moved_s > after_s
