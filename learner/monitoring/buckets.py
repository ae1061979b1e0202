"""A histogram that is cheap to add to: values are sorted into buckets many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from prometheus_client.utils import floatToGoString

_PENDING = 4096


class Buckets:
    """Counts of values by upper bound. Whoever has it from several threads locks around it."""

    def __init__(self, bounds: Iterable[float]) -> None:
        """Begin with nothing.

        Args:
            bounds: upper bounds, rising; what is above the last one counts as well.
        """
        self._bounds = np.array([*bounds], np.float64)
        self._counts = np.zeros(len(self._bounds) + 1, np.int64)
        self._total = 0.0
        self._pending: list[float] = []

    def add(self, values: Sequence[float]) -> None:
        """Count values."""
        self._pending.extend(values)
        if len(self._pending) >= _PENDING:
            self._sort()

    def copy(self) -> Buckets:
        """Return the same counts, which do not go on."""
        self._sort()
        other = Buckets(self._bounds)
        other._counts, other._total = self._counts.copy(), self._total
        return other

    def scaled(self, factor: float) -> tuple[list[tuple[str, float]], float]:
        """Return the histogram of all values times ``factor``, as the library takes it.

        That is each upper bound, as Prometheus writes it, with how many values are not above it;
        and the sum of all values.
        """
        self._sort()
        rounded = (float(f"{bound:g}") for bound in self._bounds * factor)
        names = [*map(floatToGoString, rounded), "+Inf"]
        counts = self._counts.cumsum().tolist()
        return list(zip(names, counts, strict=True)), self._total * factor

    def _sort(self) -> None:
        values = np.asarray(self._pending, np.float64)
        places = np.searchsorted(self._bounds, values)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._total += float(values.sum())
        self._pending.clear()
