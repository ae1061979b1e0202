"""One store as training reads it: what comes, and what was there before, the newest first."""

from __future__ import annotations

import logging
from threading import Event

from learner.config import GatewayConfig
from learner.store.reading import open_to_read
from learner.store.stored_episode import StoredEpisode
from protocol.errors import StoreError

logger = logging.getLogger(__name__)

Piece = list[tuple[int, StoredEpisode]]
"""Episodes with the numbers of their commits."""


class StoreTail:
    """A place in a store that moves both ways. Belongs to one thread."""

    def __init__(self, config: GatewayConfig, stopping: Event) -> None:
        """Open the store; once ``stopping`` is set, none on another node is waited for.

        Raises:
            StoreError: it cannot be read; of a store on another node the first reading says so.
        """
        self._store = open_to_read(config, stopping)
        self._older_than = -1
        self._said = ""
        self.newest = -1
        """The newest commit that was read; -1 before ``begin``."""
        self.taken = -1
        """The newest commit that whoever reads has dealt with."""
        self.store_id = ""
        """Hexadecimal; known after ``begin``."""
        self.is_exhausted = False
        """Everything that was stored before the start has been taken, or is not wanted."""

    @property
    def is_done_with_older(self) -> bool:
        """Nothing more of what was stored before the start is wanted."""
        return self._older_than == 0

    @property
    def is_in_trouble(self) -> bool:
        """It could not be read when it was asked last."""
        return bool(self._said)

    def begin(self) -> int:
        """Go to the newest record; return how many labelled attempts are stored.

        Raises:
            StoreError: the store cannot be read now.
        """
        robots = self._store.robots()
        last = self._store.last_commit()
        attempts = sum(map(self._attempts_of, robots))
        self.store_id = self._store.store_id().hex()
        self.newest = self.taken = last
        self._older_than = last + 1
        return attempts

    def _attempts_of(self, robot_id: str) -> int:
        """Return how many labelled attempts are stored of a robot; 0 if that is damaged."""
        try:
            return self._store.ledger(robot_id).attempts
        except StoreError as error:
            self._store.last_commit()  # which fails as well where nothing can be read now
            logger.error("the attempts of %s are not counted: %s", robot_id, error)  # noqa: TRY400 - the reason is all there is to know
            return 0

    def new(self, limit: int) -> Piece:
        """Return the next episodes that came since the last ones; StoreError as ``begin``."""
        found = self._store.tail(self.newest, limit)
        if found:
            self.newest = found[-1][0]
        self._said = ""
        return found

    def older(self, limit: int) -> Piece:
        """Return the next episodes before those that were read, the newest first."""
        while self._older_than > max(1, self._store.first_commit()):
            after, before = max(0, self._older_than - 1 - limit), self._older_than
            found = self._store.tail(after, before - 1 - after)
            self._older_than = after + 1
            if older := [(number, stored) for number, stored in found if number < before]:
                return older[::-1]
        self._older_than = 0
        return []

    def want_no_older(self) -> None:
        """Read only what comes from now on."""
        self._older_than = 0

    def note_taken(self) -> None:
        """Note that whoever reads has dealt with what it got."""
        self.is_exhausted = 0 <= self._older_than <= 1

    def note_trouble(self, error: StoreError) -> None:
        """Say why nothing can be read, once until something can again."""
        if not self._said:
            logger.error("no more episodes can be read: %s", error)
        self._said = str(error)

    def close(self) -> None:
        """Read no more."""
        self._store.close()
