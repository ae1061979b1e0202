"""How old a store's episodes are, by a clock that nobody can set."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from learner.store.file import StoreFile
from learner.store.stored_episode import SEQUENCE

_SERVICE = b"service_s"
_MARK_S = 60.0
"""How often the clock is written down; what a killed learner loses of it."""
_HOUR_S = 3600.0


class StoreAge:
    """Counts the time that a learner has had the store open for writing.

    Age is this time of service, not calendar time. A wall clock that is a year ahead after a
    dead battery would make every episode a year old, and the store would be emptied; one that is
    set back would keep them for ever. The monotonic clock cannot do either. Time while no learner
    runs does not count, nor does up to a minute before a learner is killed: episodes may be kept
    for longer than asked, never for shorter.

    Which episode is how old is noted by the hour: an hour of service, and the highest commit
    number at the end of it.
    """

    def __init__(self, file: StoreFile, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._monotonic_s = monotonic_s
        with file.environment.begin() as transaction:
            written = transaction.get(_SERVICE, db=file.meta)
        self._offset_s = (SEQUENCE.unpack(written)[0] if written else 0) - monotonic_s()
        self._marked_s = float("-inf")

    def now_s(self) -> float:
        """Return the time of service up to now."""
        return self._monotonic_s() + self._offset_s

    @property
    def is_mark_due(self) -> bool:
        """True when the last mark is a minute old."""
        return self.now_s() - self._marked_s >= _MARK_S

    def mark(self, transaction: Any, last_number: int) -> None:  # noqa: ANN401
        """Write down the time, and that ``last_number`` is the newest commit by now."""
        now_s = self.now_s()
        hour = SEQUENCE.pack(int(now_s // _HOUR_S))
        transaction.put(_SERVICE, SEQUENCE.pack(int(now_s)), db=self._file.meta)
        transaction.put(hour, SEQUENCE.pack(last_number), db=self._file.ages)
        self._marked_s = now_s

    def last_older_than(self, transaction: Any, age_s: float) -> int:  # noqa: ANN401
        """Return the highest commit number that is older than this for certain; 0 if none is."""
        hour = int((self.now_s() - age_s) // _HOUR_S) - 1
        if hour < 0:
            return 0
        cursor = transaction.cursor(self._file.ages)
        at_or_after = cursor.set_range(SEQUENCE.pack(hour))
        if not (at_or_after and cursor.key() == SEQUENCE.pack(hour)):
            at_or_after = cursor.prev() if at_or_after else cursor.last()
        return int(SEQUENCE.unpack(cursor.value())[0]) if at_or_after else 0

    def forget_older_than(self, transaction: Any, age_s: float) -> None:  # noqa: ANN401
        """Delete the marks that the newest one of this age makes useless."""
        hour = int((self.now_s() - age_s) // _HOUR_S) - 1
        cursor = transaction.cursor(self._file.ages)
        while cursor.first() and SEQUENCE.unpack(cursor.key())[0] < hour:
            cursor.delete()
