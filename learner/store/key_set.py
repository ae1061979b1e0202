"""Which records were seen, whatever store they came from."""

from __future__ import annotations

from collections import defaultdict

from learner.store.sequence_set import SequenceSet
from learner.store.stored_episode import RecordKey


class KeySet:
    """Keys of records. Costs memory by the runs of sequences, not by the records."""

    def __init__(self) -> None:
        self._spools: defaultdict[tuple[str, bytes], SequenceSet] = defaultdict(SequenceSet)

    def add(self, key: RecordKey) -> bool:
        """Take a key in; return False when it was there."""
        return self._spools[key.robot_id, key.spool_id].add(key.sequence)
