"""Fills the replay from the episode store, in the background, for as long as training runs."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace

from learner.config import GatewayConfig
from learner.store.reading import open_to_read
from learner.store.stored_episode import StoredEpisode
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.replay import Replay
from learner.training.team import Team
from protocol.codec import decode_episode
from protocol.episode import Episode, Label
from protocol.errors import RejectedEpisodeError, StoreError

logger = logging.getLogger(__name__)

_AT_ONCE = 64
"""Episodes read and decoded before new ones are looked for."""
_POLL_S = 0.1
OPENING_ATTEMPTS = 4096
"""Newest attempts with which training goes on while older ones are still read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Training examples that were counted as experience, also those that have gone since."""

    through: int = 0
    """The newest commit that was; 0 for none."""
    examples: int = 0
    history_drawn: int = 0
    """Of all examples that steps have used: those from ``training.history``."""


class ReplayFeed:
    """A thread that decodes stored episodes into the replay.

    New ones as they come; between them, those that were there before the start, from the newest
    backwards: what the fleet does now is what training goes on with. Older ones than the replay
    holds are not read. Each worker of a team takes its part, and counts it for all of them.
    """

    def __init__(
        self,
        config: GatewayConfig,
        replay: Replay,
        refiner: HandEyeRefiner,
        *,
        counted: Counted | None = None,
        team: Team | None = None,
    ) -> None:
        self._store = open_to_read(config)
        self._replay = replay
        self._refiner = refiner
        self._counted = counted or Counted()
        self._team = team or Team()
        self._uncounted_examples = 0
        self._newest = self._older_than = -1
        self._said = ""
        self.attempts = 0
        """Labelled attempts of the whole fleet, ever."""
        self.examples = 0
        """Training examples put into the replay since the start."""
        self.opened = threading.Event()
        """Set once enough of the newest attempts are there to go on with, or all there is."""
        self.caught_up = threading.Event()
        """Set once everything stored before the start has been read, or as much as fits."""
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="replay-feed", daemon=True)

    def start(self) -> None:
        """Begin with the newest episode."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def counted(self, *, history_drawn: int = 0) -> Counted:
        """Return what the next start need not count again."""
        if not self.caught_up.is_set():
            # Older ones that are still unread must count some day.
            return replace(self._counted, history_drawn=history_drawn)
        return Counted(
            through=self._newest, examples=self.examples_ever, history_drawn=history_drawn
        )

    @property
    def examples_ever(self) -> int:
        """Training examples that this run has had in all, also before it was resumed."""
        return self._counted.examples + self._team.size * self._uncounted_examples

    def close(self) -> None:
        """Stop after the episode at hand."""
        self._stopping.set()
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if not self._read_some():
                    self._stopping.wait(_POLL_S)
        except BaseException as error:
            logger.exception("replay feed ended")
            self._failure = error

    def _read_some(self) -> bool:
        """Read a few episodes; False when there were none."""
        try:
            if self._newest < 0:
                self._find_begin()
            found = self._store.tail(self._newest, _AT_ONCE)
            older = [] if found else self._older()
        except StoreError as error:
            # Training goes on with what it has; robots hear of it from the gateway.
            self._say_once(str(error))
            return False
        for number, stored in found:
            self._take_new(number, stored)
        for number, stored in reversed(older):
            self._take_older(number, stored)
        if self._older_than <= 1 or self._replay.attempts * self._team.size >= OPENING_ATTEMPTS:
            self.opened.set()
        if self._older_than <= 1:
            self.caught_up.set()
        return bool(found or older)

    def _find_begin(self) -> None:
        robots = self._store.robots()
        last = self._store.last_commit()
        self.attempts = sum(self._store.ledger(robot).attempts for robot in robots)
        self._newest, self._older_than = last, last + 1

    def _older(self) -> list[tuple[int, StoredEpisode]]:
        """Return the next episodes before those that were read, oldest first."""
        while self._older_than > max(1, self._store.first_commit()):
            after, before = max(0, self._older_than - 1 - _AT_ONCE), self._older_than
            self._older_than = after + 1
            found = self._store.tail(after, before - 1 - after)
            if older := [(number, stored) for number, stored in found if number < before]:
                return older
        self._older_than = 0
        return []

    def _take_new(self, number: int, stored: StoredEpisode) -> None:
        self._newest = number
        episode = self._decoded(number, stored)
        if episode is not None:
            self.attempts += self._team.size * (episode.outcome.label != Label.ABORTED)
            self._count(number, self._replay.add(episode, self._refiner.index_of(episode)))

    def _take_older(self, number: int, stored: StoredEpisode) -> None:
        if self._stopping.is_set() or not self._older_than:
            return
        episode = self._decoded(number, stored)
        if episode is None:
            return
        added = self._replay.add_older(episode, self._refiner.index_of(episode))
        if added is None:
            logger.info("the replay holds %d attempts and is full", self._replay.attempts)
            self._older_than = 0
        else:
            self._count(number, added)

    def _decoded(self, number: int, stored: StoredEpisode) -> Episode | None:
        if number % self._team.size != self._team.rank:
            return None
        try:
            episode = decode_episode(stored.record)
            self._replay.check(episode)
            self._refiner.index_of(episode)
        except RejectedEpisodeError as error:
            # Admitted by its header; its pictures cannot be decoded, or are of another size.
            logger.warning("%s left out of training: %s", stored.key, error)
            return None
        return episode

    def _count(self, number: int, examples: int) -> None:
        self.examples += self._team.size * examples
        if number > self._counted.through:
            self._uncounted_examples += examples

    def _say_once(self, what: str) -> None:
        if what != self._said:
            self._said = what
            logger.error("no more episodes can be read: %s", what)
