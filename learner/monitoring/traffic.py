"""What goes through the gateway: records received, acked, and how long commits take."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from learner.monitoring.buckets import Buckets

_COMMIT_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficTotals:
    """What went through until one moment."""

    received_episodes: int
    received_bytes: int
    acked_episodes: int
    commit_s: Buckets


class Traffic:
    """Counts since the gateway began. Each ``note`` belongs to one thread; any may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received_episodes = self._received_bytes = self._acked_episodes = 0
        self._commit_s = Buckets(_COMMIT_S)

    def note_received(self, record_bytes: int) -> None:
        """Note a record that was admitted. Without the lock: it is one for every record."""
        self._received_episodes += 1
        self._received_bytes += record_bytes

    def note_commit(self, duration_s: float, acked_episodes: int) -> None:
        """Note a group that is on disk."""
        with self._lock:
            self._acked_episodes += acked_episodes
            self._commit_s.add([duration_s])

    def totals(self) -> TrafficTotals:
        """Return what went through until now."""
        with self._lock:
            return TrafficTotals(
                received_episodes=self._received_episodes,
                received_bytes=self._received_bytes,
                acked_episodes=self._acked_episodes,
                commit_s=self._commit_s.copy(),
            )
