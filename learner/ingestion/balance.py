"""Whether robots should move from this gateway to another that has far fewer.

After a gateway was away all its robots are at the others, and would stay there for good.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from learner.ingestion.neighbours import Neighbours

logger = logging.getLogger(__name__)

LOPSIDED = 2
"""Robots move while there are more than this many times as many here as there."""
PATIENCE_S = 120.0
"""How long it must have been so, and the other gateway been there: robots do not follow one that
comes and goes."""
STAYS_S = 3600.0
"""How long a robot that was sent, and is back, is not sent again: it may not reach the other."""
BETWEEN_S = 5.0
"""One robot moves at a time, and is counted at its new place before the next one does."""


class Balance:
    """Says where a robot of this gateway may move. Belongs to the gateway's thread."""

    def __init__(self, neighbours: Neighbours, clock: Callable[[], float] = time.monotonic) -> None:
        self._neighbours = neighbours
        self._clock = clock
        self._look_s = 0.0
        self._lopsided_since_s: float | None = None
        self._moved_s: dict[str, float] = {}
        """By robot, when it was sent last."""

    def better_place(self, robot_id: str, own_robots: Callable[[], int]) -> str | None:
        """Return where a robot that has nothing to deliver shall move; None for nowhere.

        Args:
            robot_id: not sent again for STAYS_S.
            own_robots: counts the robots that are connected here; called every few seconds.
        """
        now_s = self._clock()
        if now_s < self._look_s or now_s < self._moved_s.get(robot_id, -math.inf) + STAYS_S:
            return None
        self._look_s = now_s + BETWEEN_S
        here, fewest = own_robots(), self._neighbours.fewest()
        if fewest is None or not _is_lopsided(here, fewest[1]):
            self._lopsided_since_s = None
            return None
        if self._lopsided_since_s is None:
            self._lopsided_since_s = now_s
        if now_s - self._lopsided_since_s < PATIENCE_S:
            return None
        self._moved_s[robot_id] = now_s
        endpoint, there = fewest
        logger.info(
            "%s moves to %s: %d robots are here, %d there", *(robot_id, endpoint, here, there)
        )
        return endpoint


def _is_lopsided(here: int, there: int) -> bool:
    # Two more at least: moving one must not turn it round.
    return here > LOPSIDED * there and here >= there + 2
