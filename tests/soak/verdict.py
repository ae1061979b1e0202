"""What may grow, and how fast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tests.soak.sample import PROCESSES, Row
from tests.soak.slope import Slope, slope_of

WARM_UP = 0.2
"""Share of the run that is left out: caches fill, allocators find their size."""
LIMITS = {
    "gateway_own_mb": 30.0,
    "releases_own_mb": 30.0,
    "agents_own_mb": 100.0,
    "gateway_descriptors": 10.0,
    "releases_descriptors": 10.0,
    "agents_descriptors": 50.0,
    "gateway_threads": 5.0,
    "releases_threads": 5.0,
    "agents_threads": 25.0,
}
"""Growth per hour that is still none; "agents" are all robots of the run together.

The trainer's memory is not among them: its replay keeps what it is given.
"""
_ALSO_SHOWN = ("ack_p50_ms", "ack_p99_ms", "store_bytes", "acked")


def settled(rows: Sequence[Row]) -> list[Row]:
    """Return the rows after the warm-up."""
    begin_s = WARM_UP * rows[-1]["at_s"]
    return [row for row in rows if row["at_s"] >= begin_s]


def slopes_of(rows: Sequence[Row]) -> dict[str, Slope]:
    """Return the slope of every figure, over the rows that have it.

    Raises:
        ValueError: there are too few rows.
    """
    slopes = {}
    for name in rows[0]:
        pairs = [(row["at_s"], row[name]) for row in rows if not np.isnan(row[name])]
        if name != "at_s":
            slopes[name] = slope_of(*zip(*pairs, strict=True))
    return slopes


def complaints(slopes: dict[str, Slope]) -> list[str]:
    """Return what surely grows faster than its limit; nothing is best."""
    return [
        f"{name} grows by {slopes[name].per_hour:.1f} per hour (95 %: {slopes[name].low:.1f} to "
        f"{slopes[name].high:.1f}), more than {limit:g}"
        for name, limit in LIMITS.items()
        if slopes[name].low > limit
    ]


def table(rows: Sequence[Row], slopes: dict[str, Slope]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"{'figure':24} {'first':>12} {'last':>12} {'per hour':>12} {'95 %':>26} {'limit':>7}"
    shown = [name for name in slopes if name.split("_")[0] in PROCESSES]
    for name in [*shown, *_ALSO_SHOWN]:
        slope = slopes[name]
        interval = f"{slope.low:.1f} to {slope.high:.1f}"
        limit = f"{LIMITS[name]:g}" if name in LIMITS else "-"
        yield (
            f"{name:24} {rows[0][name]:12.1f} {rows[-1][name]:12.1f} {slope.per_hour:12.1f} "
            f"{interval:>26} {limit:>7}"
        )
