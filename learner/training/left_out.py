"""Says which stored episodes training leaves out, without a line for each of thousands."""

from __future__ import annotations

import logging
from collections import Counter

from learner.store.stored_episode import RecordKey
from protocol.errors import RejectedEpisodeError

logger = logging.getLogger(__name__)


class LeftOut:
    """How many episodes of each robot are left out. May be told of them by several threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def note(self, key: RecordKey, error: RejectedEpisodeError) -> None:
        """Log the first of a robot, the second, the fourth, and so on, with their number."""
        self._counts[key.robot_id] += 1
        count = self._counts[key.robot_id]
        level = logging.DEBUG if count & (count - 1) else logging.WARNING
        logger.log(level, "%s left out of training, %d of this robot: %s", key, count, error)
