"""Recorded stores as training examples: read in random pieces, in step with training.

What is in memory at a step depends on the seed and the step alone, so that a run can be repeated
to the bit although reading goes on in the background.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from learner.config import LearnerConfig
from learner.store.episode_store import EpisodeStore
from learner.training.example_set import ExampleSet
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.left_out import LeftOut
from learner.training.random_streams import Stream, generator
from learner.training.replay import Replay
from learner.training.team import Team
from protocol.codec import decode_episode, read_episode_summary
from protocol.errors import ConfigurationError, RejectedEpisodeError

logger = logging.getLogger(__name__)

_PIECE = 32
"""Episodes read at once: neighbours in the store, fewer where some are gone."""
_BEFORE_FIRST_STEP = 4096
_PER_STEP = 32
"""Episodes read before the first step, and then before each: less work than a step."""


class History:
    """The episodes of some stores on their way into a replay."""

    def __init__(
        self,
        folders: Sequence[Path],
        config: LearnerConfig,
        replay: Replay,
        refiner: HandEyeRefiner,
        team: Team,
        *,
        least_per_step: int = 0,
    ) -> None:
        """Open the stores; nothing is read into the replay yet.

        Args:
            folders: of the stores.
            config: of the learner.
            replay: what is filled.
            refiner: refines the maps of its robots.
            team: the workers that share what is read.
            least_per_step: episodes read before each step at least.

        Raises:
            StoreError: a store is not there, is of another version, or damaged.
            ConfigurationError: the pictures of a store are of another size, or one is named twice.
        """
        _check_distinct(folders)
        self._replay = replay
        self._refiner = refiner
        most_bytes = max(one.max_store_bytes for one in config.gateways)
        self._stores = [EpisodeStore(folder, most_bytes, readonly=True) for folder in folders]
        for folder, store in zip(folders, self._stores, strict=True):
            _check_pictures(folder, store, config)
        pieces = [
            (place, after)
            for place, store in enumerate(self._stores)
            for after in range(max(0, store.first_commit() - 1), store.last_commit(), _PIECE)
        ]
        order = generator(config.seed, Stream.READING).permutation(len(pieces))
        self._pieces = [pieces[at] for at in order[team.rank :: team.size]][::-1]
        self._per_step = max(_PER_STEP, least_per_step) / team.size
        self._before_first_step = _BEFORE_FIRST_STEP / team.size
        self._left_out = LeftOut()
        self._read = 0

    @property
    def examples(self) -> ExampleSet:
        """What may be trained on."""
        return self._replay.training

    @property
    def is_read(self) -> bool:
        """Whether all is in memory, or as much as fits."""
        return not self._pieces

    def advance_to(self, step: int, stopping: Event | None = None) -> None:
        """Read what must be in memory for a step; belongs to one thread.

        That is one labelled attempt at least, if there is any. Once ``stopping`` is set it ends
        after the piece at hand.

        Raises:
            StoreError: a store is so damaged that nothing more can be read.
        """
        wanted = self._before_first_step + step * self._per_step
        while self._pieces and (self._read < wanted or not len(self.examples)):
            if stopping is not None and stopping.is_set():
                return
            self._read_piece()

    def read_all(self) -> None:
        """Read everything, or as much as fits."""
        while self._pieces:
            self._read_piece()

    def close(self) -> None:
        """Close the stores."""
        for store in self._stores:
            store.close()

    def _read_piece(self) -> None:
        place, after = self._pieces.pop()
        before = self._stores[:place]
        found = self._stores[place].tail(after, _PIECE, last=after + _PIECE)
        self._read += len(found)
        for _, stored in found:
            if any(store.number_of(stored.key) is not None for store in before):
                continue  # a robot that moved between gateways may have delivered to both
            try:
                episode = decode_episode(stored.record)
                calibration = self._refiner.key_of(episode)
                is_full = self._replay.add_older(episode, calibration) is None
            except RejectedEpisodeError as error:
                self._left_out.note(stored.key, error)
                continue
            if is_full:
                logger.warning(
                    "replay_bytes are full with %d attempts: a random part of the history; about "
                    "%d more are left out",
                    self._replay.attempts,
                    _PIECE * len(self._pieces),
                )
                self._pieces.clear()
                return


def _check_distinct(folders: Sequence[Path]) -> None:
    found = [folder.resolve() for folder in folders]
    twice = [folder for folder in found if found.count(folder) > 1]
    if twice:
        raise ConfigurationError(f"{twice[0]}: this store is named twice; name it once")


def _check_pictures(folder: Path, store: EpisodeStore, config: LearnerConfig) -> None:
    newest = store.tail(max(0, store.last_commit() - 1), 1)
    for _, stored in newest:
        found = read_episode_summary(stored.record)
        wanted = (config.image_height_px, config.image_width_px)
        if (found.height_px, found.width_px) != wanted:
            raise ConfigurationError(
                f"{folder}: pictures of {found.height_px} x {found.width_px} px (height, width), "
                f"but the configuration says {wanted[0]} x {wanted[1]}"
            )
