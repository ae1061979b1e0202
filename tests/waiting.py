"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0
"""Only what never happens takes so long: a busy machine is no failure."""
_LONGEST_LOOK_S = 1.0


def wait_until(
    condition: Callable[[], bool], what: str, within_s: float = PATIENCE_S, *, every_s: float = 0.01
) -> None:
    """Look until ``condition`` holds; fail when it does not in time.

    Time in which the machine stood still does not count: whoever is waited for stood still too.
    """
    waited_s, looked_s = 0.0, time.monotonic()
    while not condition():
        assert waited_s < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(every_s)
        now_s = time.monotonic()
        waited_s += min(now_s - looked_s, _LONGEST_LOOK_S)
        looked_s = now_s
