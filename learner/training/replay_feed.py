"""Fills the replay from the episode stores, in the background, for as long as training runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from learner.config import GatewayConfig
from learner.store.key_set import KeySet
from learner.store.stored_episode import StoredEpisode
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.left_out import LeftOut
from learner.training.replay import Replay
from learner.training.store_tail import StoreTail
from learner.training.team import Team
from protocol.codec import decode_episode
from protocol.episode import Episode, Label
from protocol.errors import RejectedEpisodeError, StoreError

logger = logging.getLogger(__name__)

_AT_ONCE = 64
"""Episodes read and decoded before new ones are looked for."""
_POLL_S = 0.1
_TROUBLE_POLL_S = 1.0
OPENING_ATTEMPTS = 4096
"""Newest attempts with which training goes on while older ones are still read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Training examples that were counted as experience, also those that have gone since."""

    through: dict[str, int] = field(default_factory=dict)
    """Store id, hexadecimal -> the newest commit that was; under "" for any other, as older
    checkpoints have it."""
    examples: int = 0
    history_drawn: int = 0
    """Of all examples that steps have used: those from ``training.history``."""


class ReplayFeed:
    """Threads, one for each store, that decode stored episodes into the replay.

    New ones as they come; between them, those that were there before the start, from the newest
    backwards: what the fleet does now is what training goes on with. When the replay is full, it
    looks past as many more for robots that have less than an equal share, and reads no further.
    Each worker of a team takes its part, and counts it for all of them. What two stores hold is
    taken once.
    """

    def __init__(
        self,
        stores: Sequence[GatewayConfig],
        replay: Replay,
        refiner: HandEyeRefiner,
        *,
        counted: Counted | None = None,
        team: Team | None = None,
    ) -> None:
        self._stopping = threading.Event()
        self._tails = [StoreTail(config, self._stopping) for config in stores]
        self._replay = replay
        self._refiner = refiner
        self._counted = counted or Counted()
        self._team = team or Team()
        self._uncounted_examples = dict.fromkeys(self._tails, 0)
        self._left_out = LeftOut()
        self._keys = KeySet()
        self._passed_over = 0
        """Older attempts in a row for which the replay had no room."""
        self._taking = threading.Lock()
        """Held by the one thread that puts an episode into the replay."""
        self.attempts = 0
        """Labelled attempts of the whole fleet, ever."""
        self.examples = 0
        """Training examples put into the replay since the start."""
        self.opened = threading.Event()
        """Set once enough of the newest attempts are there to go on with, or all there is."""
        self.caught_up = threading.Event()
        """Set once everything stored before the start has been read, or as much as fits."""
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(tail,), name="replay-feed", daemon=True)
            for tail in self._tails
        ]

    def start(self) -> None:
        """Begin with the newest episodes."""
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Raise what ended a thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def counted(self, *, history_drawn: int = 0) -> Counted:
        """Return what the next start need not count again."""
        with self._taking:
            # Of the other stores older ones are still unread, and must count some day.
            read = [tail for tail in self._tails if tail.is_exhausted]
            examples = sum(self._uncounted_examples[tail] for tail in read)
            through = self._counted.through | {tail.store_id: tail.taken for tail in read}
            if len(read) == len(self._tails):
                # Each store now has a number of its own; one that is added later has none yet.
                through.pop("", None)
            return Counted(
                through=through,
                examples=self._counted.examples + self._team.size * examples,
                history_drawn=history_drawn,
            )

    @property
    def examples_ever(self) -> int:
        """Training examples that this run has had in all, also before it was resumed."""
        uncounted_examples = sum(self._uncounted_examples.values())
        return self._counted.examples + self._team.size * uncounted_examples

    def close(self) -> None:
        """Stop after the episodes at hand."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for tail in self._tails:
            tail.close()

    def _run(self, tail: StoreTail) -> None:
        try:
            while not self._stopping.is_set():
                if not self._read_some(tail):
                    self._stopping.wait(_TROUBLE_POLL_S if tail.is_in_trouble else _POLL_S)
        except BaseException as error:
            logger.exception("replay feed ended")
            self._failure = error

    def _read_some(self, tail: StoreTail) -> bool:
        """Read a few episodes; False when there were none."""
        try:
            if tail.newest < 0:
                attempts = tail.begin()
                with self._taking:
                    self.attempts += attempts
            found = tail.new(_AT_ONCE)
            older = [] if found else tail.older(_AT_ONCE)
        except StoreError as error:
            if self._stopping.is_set():
                return False
            # Training goes on with what it has; robots hear of it from the gateway.
            tail.note_trouble(error)
            self._note_progress()
            return False
        for number, stored in found:
            with self._taking:
                self._take_new(tail, number, stored)
        for number, stored in older:
            with self._taking:
                self._take_older(tail, number, stored)
        tail.note_taken()
        self._note_progress()
        return bool(found or older)

    def _note_progress(self) -> None:
        is_read = [tail.is_exhausted for tail in self._tails]
        if all(is_read):
            self.caught_up.set()
        # A store that cannot be read, because its node is gone, does not keep training from the
        # others.
        is_all_there_is = any(is_read) and all(
            tail.is_exhausted or tail.is_in_trouble for tail in self._tails
        )
        if is_all_there_is or self._replay.attempts * self._team.size >= OPENING_ATTEMPTS:
            self.opened.set()

    def _take_new(self, tail: StoreTail, number: int, stored: StoredEpisode) -> None:
        tail.taken = number
        episode = self._decoded(stored, is_new=True)
        if episode is not None:
            self.attempts += self._team.size * (episode.outcome.label != Label.ABORTED)
            self._count(tail, number, self._replay.add(episode, self._refiner.key_of(episode)))

    def _take_older(self, tail: StoreTail, number: int, stored: StoredEpisode) -> None:
        if self._stopping.is_set() or tail.is_done_with_older:
            return
        if not self._replay.wants_older(stored.key.robot_id):
            self._pass_over(tail)
            return
        episode = self._decoded(stored, is_new=False)
        if episode is None:
            return
        added = self._replay.add_older(episode, self._refiner.key_of(episode))
        if added is None:
            self._pass_over(tail)
        else:
            self._passed_over = 0
            self._count(tail, number, added)

    def _pass_over(self, tail: StoreTail) -> None:
        # Behind those of a robot that made very many there may be others' that have room.
        self._passed_over += 1
        if self._passed_over > self._replay.attempts:
            logger.info("the replay holds %d attempts and is full", self._replay.attempts)
            tail.want_no_older()

    def _decoded(self, stored: StoredEpisode, *, is_new: bool) -> Episode | None:
        # Also another worker's: with them a spool's keys are a few runs.
        is_first = self._keys.add(stored.key)
        # By the sequence: it is the same in every store.
        is_own = stored.key.sequence % self._team.size == self._team.rank
        if not is_own or not is_first:
            return None
        try:
            episode = decode_episode(stored.record)
            self._replay.check(episode)
            self._refiner.note_in_use(episode, is_new=is_new)
            self._refiner.key_of(episode)
        except RejectedEpisodeError as error:
            # Admitted by its header; its pictures cannot be decoded, or are of another size. Or
            # its calibration cannot be learned with.
            self._left_out.note(stored.key, error)
            return None
        return episode

    def _count(self, tail: StoreTail, number: int, examples: int) -> None:
        self.examples += self._team.size * examples
        through = self._counted.through
        if number > through.get(tail.store_id, through.get("", 0)):
            self._uncounted_examples[tail] += examples
