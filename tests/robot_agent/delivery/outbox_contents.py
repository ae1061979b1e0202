"""What goes into an outbox in tests, and what is found in it."""

from __future__ import annotations

from robot_agent.delivery.outbox import Outbox

BLOCK_BYTES = 4096
"""What a disk writes at once."""


def record(number: int, size: int = 1000) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def sequences(outbox: Outbox, after: int = 0, limit_bytes: int = 10**9) -> list[int]:
    return [episode.sequence for episode in outbox.unsent(after, limit_bytes)]


def assert_adds_up(outbox: Outbox) -> None:
    counts = outbox.counts()
    parts = counts.acked + counts.dropped + counts.refused + counts.waiting
    assert counts.written == parts
