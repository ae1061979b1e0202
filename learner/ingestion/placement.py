"""At which of the fleet's gateways a robot of this one should be."""

from __future__ import annotations

from collections.abc import Callable

from learner.ingestion.balance import Balance
from learner.ingestion.neighbours import Neighbours
from learner.ingestion.sessions import Session, Sessions
from learner.store.episode_store import EpisodeStore
from protocol.messages import Heartbeat, Hello, Redirect

_GATEWAYS_SINCE = 4
"""The wire version from which on robots know of several gateways."""


class Placement:
    """Sends robots to other gateways. Belongs to the gateway's thread."""

    def __init__(
        self,
        neighbours: Neighbours,
        sessions: Sessions,
        store: EpisodeStore,
        own_endpoint: Callable[[], str],
    ) -> None:
        self._neighbours = neighbours
        self._balance = Balance(neighbours)
        self._sessions = sessions
        self._store = store
        self._own_endpoint = own_endpoint

    def gateways(self, wire_version: int) -> list[str]:
        """Return the fleet's gateways as a robot is told of them; none where there is only one."""
        return self._everyone() if wire_version >= _GATEWAYS_SINCE else []

    def of_newcomer(self, robot_id: str, hello: Hello) -> Redirect | None:
        """Send a robot that says hello elsewhere, if another gateway should have it.

        Who has delivered here stays, and so does who was sent here: by another gateway, or because
        another one did not answer.

        Raises:
            StoreError: the store is damaged.
        """
        if hello.wire_version < _GATEWAYS_SINCE or hello.sent_on:
            return None
        if not self._neighbours.endpoints or hello.spool_id in self._store.spools(robot_id):
            return None
        own_robots = len(self._sessions.live().keys() - {robot_id})
        return self._to(self._neighbours.better_place(robot_id, hello.spool_id, own_robots))

    def of_idle(self, robot_id: str, session: Session, message: Heartbeat) -> Redirect | None:
        """Send a robot that has nothing under way elsewhere, if this gateway is crowded.

        Where it has put an episode into its outbox since, and that comes to both gateways, one copy
        goes later, as after a crash.
        """
        if not session.gateways or message.outbox_episodes:
            return None
        return self._to(self._balance.better_place(robot_id, lambda: len(self._sessions.live())))

    def _to(self, endpoint: str | None) -> Redirect | None:
        if endpoint is None:
            return None
        return Redirect(endpoint=endpoint, gateways=self._everyone())

    def _everyone(self) -> list[str]:
        others = self._neighbours.endpoints
        return [self._own_endpoint(), *others] if others else []
