"""How often one key may speak: a bucket of tokens each, refilled all the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from protocol.limits import MESSAGE_BURST, MESSAGES_PER_S, REFUSED_MESSAGE_COST


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float
    is_told: bool = False


class MessageRate:
    """Counts the messages of every key. Belongs to one thread."""

    def __init__(
        self,
        *,
        per_s: float = MESSAGES_PER_S,
        burst: float = MESSAGE_BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: tokens ``per_s`` flow into every bucket, which holds ``burst`` at most."""
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def admits(self, key: str) -> bool:
        """Count a message; return False when its sender is beyond its rate."""
        now_s = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now_s)
        tokens = bucket.tokens + (now_s - bucket.filled_s) * self._per_s
        bucket.tokens = min(tokens, self._burst)
        bucket.filled_s = now_s
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def charge_refusal(self, key: str) -> None:
        """Count what was admitted and then refused as REFUSED_MESSAGE_COST messages."""
        self.charge(key, REFUSED_MESSAGE_COST - 1)

    def charge(self, key: str, messages: int) -> None:
        """Count what was admitted as so many messages more: it costs as much as they would."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.tokens -= messages

    def must_be_told(self, key: str) -> bool:
        """Return True once while a key is beyond its rate, so that it is told once."""
        bucket = self._buckets[key]
        is_told, bucket.is_told = bucket.is_told, True
        return not is_told

    def forget_quiet(self) -> None:
        """Forget the keys whose bucket has filled up again; they may be told anew."""
        now_s = self._clock()
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket.tokens + (now_s - bucket.filled_s) * self._per_s < self._burst
        }
