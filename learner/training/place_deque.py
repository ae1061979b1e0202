"""Places in order, added at both ends, removed from the front, read at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FIRST_CAPACITY = 64


class PlaceDeque:
    """A double-ended queue of int64 with indexing by array, which ``collections.deque`` lacks."""

    def __init__(self) -> None:
        self._data: NDArray[np.int64] = np.empty(_FIRST_CAPACITY, np.int64)
        self._front = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, place: int) -> None:
        """Add a place behind the last one."""
        self._make_room()
        self._data[(self._front + self._count) % len(self._data)] = place
        self._count += 1

    def append_front(self, place: int) -> None:
        """Add a place before the first one."""
        self._make_room()
        self._front = (self._front - 1) % len(self._data)
        self._data[self._front] = place
        self._count += 1

    def drop_front(self, count: int) -> None:
        """Remove the first ``count`` places."""
        self._front = (self._front + count) % len(self._data)
        self._count -= count

    def at(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places at these positions, counted from the front."""
        return self._data[(self._front + index) % len(self._data)]

    def _make_room(self) -> None:
        if self._count == len(self._data):
            in_order = self.at(np.arange(self._count))
            self._data = np.concatenate([in_order, np.empty(self._count, np.int64)])
            self._front = 0
