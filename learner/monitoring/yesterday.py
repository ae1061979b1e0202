"""What was counted against each robot a day ago: what is lost stays lost, and is news for a day."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from protocol.messages import RobotStatus

NEWS_S = 86_400.0
_EVERY_S = 3600.0
_Counts = dict[str, tuple[int, int]]


class Yesterday:
    """Remembers missing and conflicting episodes, by the hour. Any thread may call any method.

    Nothing is known of the time before the gateway began: what there was then is news once more.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: deque[tuple[float, _Counts]] = deque()
        """When, with missing and conflicting episodes by robot."""

    @property
    def is_due(self) -> bool:
        """The last hour has not been taken yet."""
        with self._lock:
            return not self._kept or self._kept[-1][0] <= self._clock() - _EVERY_S

    def take(self, robots: Sequence[RobotStatus]) -> None:
        """Remember what is counted now."""
        now_s = self._clock()
        counts = {
            robot.robot_id: (robot.missing, robot.conflicts)
            for robot in robots
            if robot.missing or robot.conflicts
        }
        with self._lock:
            self._kept.append((now_s, counts))
            while len(self._kept) > 1 and self._kept[1][0] <= now_s - NEWS_S:
                self._kept.popleft()

    def added_to(self, robot: RobotStatus) -> RobotStatus:
        """Return a status with what of it was counted a day ago already."""
        with self._lock:
            taken_s, counts = self._kept[0] if self._kept else (self._clock(), {})
        if robot.robot_id not in counts or taken_s > self._clock() - NEWS_S:
            return robot
        missing, conflicts = counts[robot.robot_id]
        return msgspec.structs.replace(
            robot,
            missing_yesterday=min(missing, robot.missing),
            conflicts_yesterday=min(conflicts, robot.conflicts),
        )
