"""Reading a store that another process writes, on this node or on another of the cluster."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import ray

from learner.config import GatewayConfig
from learner.placement import actor_options, is_here
from learner.store.episode_store import EpisodeStore
from learner.store.ledger import RobotLedger
from learner.store.stored_episode import StoredEpisode
from protocol.errors import StoreError

_ANSWER_S = 20.0
_LOOK_S = 0.5


class StoreReader(Protocol):
    """What training asks of a store. See EpisodeStore for each."""

    def store_id(self) -> bytes:
        """What tells this store from every other."""

    def robots(self) -> list[str]:
        """Return the names of all robots that ever delivered anything."""

    def ledger(self, robot_id: str) -> RobotLedger:
        """Return what is stored, missing and tombstoned of one robot."""

    def first_commit(self) -> int:
        """Return the number of the oldest record that is kept."""

    def last_commit(self) -> int:
        """Return the number of the newest episode."""

    def tail(self, after: int, limit: int) -> list[tuple[int, StoredEpisode]]:
        """Return up to ``limit`` episodes with their commit numbers, all above ``after``."""

    def close(self) -> None:
        """Read no more."""


def open_to_read(config: GatewayConfig, stopping: Event) -> StoreReader:
    """Return the gateway's store: its file, or a process beside it where that is another node.

    Args:
        config: of the gateway.
        stopping: ends a question that waits for another node, by StoreError.

    Raises:
        StoreError: it is cut short, of another format, or not there. Of a store on another node
            the first question raises it.
    """
    if is_here(config.place):
        return EpisodeStore(config.store, config.max_store_bytes, readonly=True)
    return _StoreElsewhere(config, stopping)


class _StoreElsewhere:
    """An EpisodeStore in a Ray actor, which ends with the process that asks."""

    def __init__(self, config: GatewayConfig, stopping: Event) -> None:
        self._stopping = stopping
        self._where = f"episode store {config.store} in place {config.place}"
        options = actor_options(config.place)
        # Not tried again: whoever reads several stores must not wait for one whose node is gone.
        actor_class: Any = ray.remote(max_task_retries=0, **options)(EpisodeStore)
        self._actor: Any = actor_class.remote(
            Path(config.store), config.max_store_bytes, readonly=True
        )

    def store_id(self) -> bytes:
        store_id: bytes = self._ask("store_id")
        return store_id

    def robots(self) -> list[str]:
        robots: list[str] = self._ask("robots")
        return robots

    def ledger(self, robot_id: str) -> RobotLedger:
        ledger: RobotLedger = self._ask("ledger", robot_id)
        return ledger

    def first_commit(self) -> int:
        return int(self._ask("first_commit"))

    def last_commit(self) -> int:
        return int(self._ask("last_commit"))

    def tail(self, after: int, limit: int) -> list[tuple[int, StoredEpisode]]:
        found: list[tuple[int, StoredEpisode]] = self._ask("tail", after, limit)
        return found

    def close(self) -> None:
        ray.kill(self._actor)

    def _ask(self, what: str, *arguments: object) -> Any:  # noqa: ANN401 - each caller knows
        asked = getattr(self._actor, what).remote(*arguments)
        end_s = time.monotonic() + _ANSWER_S
        # Not all at once: training shall not end the later for a node that is away.
        while not ray.wait([asked], timeout=_LOOK_S)[0] and time.monotonic() < end_s:
            if self._stopping.is_set():
                raise StoreError(f"{self._where} does not answer, and is not waited for")
        try:
            return ray.get(asked, timeout=0)
        except StoreError:
            raise
        except ray.exceptions.RayError as error:
            # Also while its node is gone: whoever asks again is answered when it is back.
            reason = str(error).strip().splitlines()[-1]
            raise StoreError(f"{self._where} does not answer: {reason}") from error
