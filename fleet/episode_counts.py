"""How many episodes each robot sent and the store holds, from two independent sides."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotCounts:
    """One robot's episodes."""

    written: int
    """Sequences that its outbox ever gave out."""
    sent: int
    """Of those, what the learner acked."""
    waiting: int
    """Still in its outbox."""
    stored: int
    """Records that a reader of the store found."""
    missing: int
    """Sequences that the store should have and has not."""
    duplicated: int
    """Records in the store that hold an episode which another record holds too."""
    tombstoned: int
    conflicts: int
    """Sequences that came again with another content."""
    retired: int = 0
    """Records that the store removed to make room; it knows their keys and digests."""
    refused_duplicates: int = 0
    """Records that came again and were the same; the store kept one."""
    damaged: int = 0
    """Records that are not what was stored any more."""
