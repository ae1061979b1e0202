"""Waiting until an opening no longer changes: what slips out of a grip must not read as held."""

from __future__ import annotations

from collections.abc import Callable

from robot_agent.arms.clock import Clock

STILL_M, STILL_S = 0.0003, 0.3
"""The fingers are still when their opening changed by no more for so long."""
LIMIT_S = 2.0
READING_S = 0.05


def await_still_fingers(
    opening_m: Callable[[], float], clock: Clock, beat: Callable[[], None]
) -> None:
    """Return when the fingers are still, or after LIMIT_S.

    Args:
        opening_m: measures the opening.
        clock: for the wait.
        beat: called with every reading.
    """
    now_s = still_since_s = clock.monotonic_s()
    end_s, before_m = now_s + LIMIT_S, opening_m()
    while now_s < end_s and now_s - still_since_s < STILL_S:
        beat()
        clock.sleep(READING_S)
        now_s, here_m = clock.monotonic_s(), opening_m()
        if abs(here_m - before_m) > STILL_M:
            still_since_s, before_m = now_s, here_m
