"""The learning curve: rolling success over running time, and when it passed its marks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.attempts import Attempt, RunningTime
from fleet.proportion import Proportion
from protocol.episode import Mode

WINDOW = 100
"""Attempts that the rolling success looks back on."""
MARKS = (0.5, 0.7, 0.8, 0.9)
_FEWEST_GREEDY = 20
_MOST_ROWS = 240


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveRow:
    """The fleet at one moment."""

    time_s: float
    attempts: int
    """Of the whole fleet so far."""
    mode: Mode
    """GREEDY once enough attempts followed the network, RANDOM before."""
    rolling: Proportion
    """Success of the last attempts of that mode."""
    rolling_all: Proportion
    """Success of the last attempts of any mode."""
    release_version: int


def learning_curve(attempts: Sequence[Attempt], clock: RunningTime) -> list[CurveRow]:
    """Return a row after every attempt; ``attempts`` are in the order in which they ended.

    Until the network has made a few greedy attempts the curve shows the random policy, because
    that is the policy in use.
    """
    random: deque[bool] = deque(maxlen=WINDOW)
    greedy: deque[bool] = deque(maxlen=WINDOW)
    everything: deque[bool] = deque(maxlen=WINDOW)
    rows = []
    release = 0
    for count, attempt in enumerate(attempts, start=1):
        everything.append(attempt.success)
        if attempt.mode == Mode.GREEDY:
            greedy.append(attempt.success)
        elif attempt.mode == Mode.RANDOM:
            random.append(attempt.success)
        release = max(release, attempt.release_version)
        acting = Mode.GREEDY if len(greedy) >= _FEWEST_GREEDY else Mode.RANDOM
        rows.append(
            CurveRow(
                time_s=clock.at(attempt.finished_at_ns),
                attempts=count,
                mode=acting,
                rolling=Proportion.of(greedy if acting == Mode.GREEDY else random),
                rolling_all=Proportion.of(everything),
                release_version=release,
            )
        )
    return rows


def thinned(rows: Sequence[CurveRow]) -> list[CurveRow]:
    """Keep at most a few hundred rows, evenly, always with the last one."""
    stride = -(-len(rows) // _MOST_ROWS) if rows else 1
    return list(rows[::-1][::stride])[::-1]


def time_to_marks(rows: Sequence[CurveRow]) -> dict[str, float | None]:
    """Return seconds until a full window of greedy attempts first reached each mark."""
    times: dict[str, float | None] = {f"{mark:.1f}": None for mark in MARKS}
    for row in rows:
        if row.mode != Mode.GREEDY or row.rolling.attempts < WINDOW:
            continue
        for mark in MARKS:
            reached = row.rolling.successes >= mark * WINDOW
            if reached and times[f"{mark:.1f}"] is None:
                times[f"{mark:.1f}"] = round(row.time_s, 1)
    return times


def releases_in_use(rows: Sequence[CurveRow]) -> list[tuple[float, int]]:
    """Return (seconds, version) of the first attempt that followed each release."""
    seen: list[tuple[float, int]] = []
    for row in rows:
        if row.release_version > (seen[-1][1] if seen else 0):
            seen.append((row.time_s, row.release_version))
    return seen
