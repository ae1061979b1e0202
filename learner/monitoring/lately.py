"""What a gateway remembers of the last minutes: one look says nothing of how long it lasts."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

QUEUED_WITHIN_S = 300.0
REFUSED_WITHIN_S = 600.0
KEY_REFUSALS = ("connection", "server-key", "not-enrolled")
"""Reasons for which somebody is refused who may not speak at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    taken_s: float
    queued_bytes: int
    refused: tuple[int, ...]
    """Since the gateway began, in the order of KEY_REFUSALS."""


class Lately:
    """How full the queue to the disk stayed, and who knocked in vain. Any thread may ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # When the gateway began nothing was queued and nobody refused.
        nothing = _Sample(taken_s=clock(), queued_bytes=0, refused=(0,) * len(KEY_REFUSALS))
        self._samples = deque([nothing])

    def take(self, queued_bytes: int, refusals: Mapping[str, int]) -> None:
        """Take a sample; to be called every few seconds."""
        now_s = self._clock()
        refused = _of_keys(refusals)
        with self._lock:
            self._samples.append(_Sample(taken_s=now_s, queued_bytes=queued_bytes, refused=refused))
            # The one before the window says how many there were when it began.
            while self._samples[1].taken_s <= now_s - REFUSED_WITHIN_S:
                self._samples.popleft()

    def least_queued_bytes(self) -> int:
        """Return the least that waited for the disk at any time within QUEUED_WITHIN_S."""
        since_s = self._clock() - QUEUED_WITHIN_S
        with self._lock:
            newest = self._samples[-1]
            lately = [one for one in self._samples if one.taken_s >= since_s]
            return min(one.queued_bytes for one in lately or [newest])

    def keys_refused(self, refusals: Mapping[str, int]) -> int:
        """Return how often the most frequent of KEY_REFUSALS came within REFUSED_WITHIN_S.

        Args:
            refusals: how many there were by now, by reason, as ``take`` has them.
        """
        with self._lock:
            before = self._samples[0].refused
        return max(now - then for then, now in zip(before, _of_keys(refusals), strict=True))


def _of_keys(refusals: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(refusals.get(reason, 0) for reason in KEY_REFUSALS)
