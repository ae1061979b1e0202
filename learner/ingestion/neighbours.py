"""The other gateways of the fleet, as this one last heard of them through the learner.

What is said here is about a second old, and decides nothing that could lose or double an episode:
where a new robot had better go, and whether its agent also runs elsewhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from learner.ingestion.gateway_report import GatewayReport, HeardReport
from learner.ingestion.sessions import IN_USE_S
from protocol.endpoint import is_endpoint

HEARD_WITHIN_S = 2.5
"""A gateway that has just begun waits so long to hear of the others before it welcomes a robot:
less than until a robot greets again."""
GONE_AFTER_S = 4.0
"""No robot is sent to a gateway of which nothing was heard for so long."""


class Neighbours:
    """What is known of the other gateways. Any thread may call any method."""

    def __init__(
        self, names: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with gateways that were not heard yet.

        Args:
            names: what each is called until it is heard; its endpoint where that is known.
            clock: what ages are measured by.
        """
        self._clock = clock
        self._sent: Counter[str] = Counter()
        """Robots that were redirected since, by endpoint: the reports do not know of them yet."""
        self._began_s = clock()
        self.hear([HeardReport(report=GatewayReport.unheard(one), age_s=0.0) for one in names])
        self._is_awaited = bool(names)

    def hear(self, others: Sequence[HeardReport]) -> None:
        """Take the newest reports of all others in place of earlier ones."""
        self._is_awaited = False
        self._heard_s = self._clock()
        self._heard = tuple(others)
        self._sent = Counter()
        names = [one.report.endpoint for one in others]
        self.endpoints = [name for name in names if is_endpoint(name)]
        """Where the others are, as far as that is known."""

    @property
    def are_awaited(self) -> bool:
        """Whether what they know, such as who is stopped, may come in a moment."""
        return self._is_awaited and self._clock() - self._began_s < HEARD_WITHIN_S

    def reports(self) -> list[HeardReport]:
        """Return the newest report of every other gateway, also of one that is gone."""
        waited_s = self._clock() - self._heard_s
        return [replace(one, age_s=one.age_s + waited_s) for one in self._heard]

    def rival(self, robot_id: str, process_id: bytes) -> str | None:
        """Return where another agent with the robot's key is connected to another gateway.

        That is an address and a gateway in words; None if there is none that was heard just now.
        """
        for one in self.reports():
            session = one.report.sessions.get(robot_id)
            if (
                session is not None
                and session.process_id != process_id
                and session.silent_s + one.age_s <= IN_USE_S
            ):
                return f"{session.address} to the gateway {one.report.endpoint}"
        return None

    def better_place(self, robot_id: str, spool_id: bytes, own_robots: int) -> str | None:
        """Return which other gateway should serve a robot whose spool is not in this one's store.

        One that has the spool already, or else the one with the fewest robots, if it has fewer than
        this one. None when the robot may as well stay.
        """
        for report in self._live():
            if spool_id in report.holdings.get(robot_id, {}):
                return report.endpoint
        fewest = self.fewest()
        if fewest is None or fewest[1] >= own_robots:
            return None
        self._sent[fewest[0]] += 1
        return fewest[0]

    def fewest(self) -> tuple[str, int] | None:
        """Return which other gateway that is there has the fewest robots, and how many."""
        robots = {
            report.endpoint: self._sent[report.endpoint]
            + sum(robot.connected for robot in report.status.robots)
            for report in self._live()
        }
        return min(robots.items(), key=lambda one: one[1], default=None)

    def _live(self) -> list[GatewayReport]:
        return [
            one.report
            for one in self.reports()
            if one.age_s <= GONE_AFTER_S and not one.report.is_unheard
        ]
