"""Fills the replay from the episode store, in the background, for as long as training runs."""

from __future__ import annotations

import logging
import threading

from learner.config import GatewayConfig
from learner.store.episode_store import EpisodeStore
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.replay import Replay
from protocol.codec import decode_episode
from protocol.errors import RejectedEpisodeError, StoreError

logger = logging.getLogger(__name__)

_AT_ONCE = 64
"""Episodes read and decoded before new ones are looked for."""
_POLL_S = 0.1


class ReplayFeed:
    """A thread that decodes stored episodes into the replay, oldest first."""

    def __init__(self, config: GatewayConfig, replay: Replay, refiner: HandEyeRefiner) -> None:
        self._store = EpisodeStore(config.store, config.max_store_bytes, readonly=True)
        self._replay = replay
        self._refiner = refiner
        self._after = 0
        self._said = ""
        self.caught_up = threading.Event()
        """Set once everything that was stored before the start has been read."""
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="replay-feed", daemon=True)

    def start(self) -> None:
        """Begin with the oldest episode."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._failure is not None:
            raise self._failure

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
        try:
            found = self._store.tail(self._after, _AT_ONCE)
        except StoreError as error:
            # Training goes on with what it has; robots hear of it from the gateway.
            self._say_once(str(error))
            return False
        for number, stored in found:
            if self._stopping.is_set():
                return False
            self._after = number
            try:
                episode = decode_episode(stored.record)
                self._replay.add(episode, self._refiner.index_of(episode))
            except RejectedEpisodeError as error:
                # Admitted by its header; its pictures cannot be decoded, or are of another size.
                logger.warning("%s left out of training: %s", stored.key, error)
        if not found:
            self.caught_up.set()
        return bool(found)

    def _say_once(self, what: str) -> None:
        if what != self._said:
            self._said = what
            logger.error("no more episodes can be read: %s", what)
