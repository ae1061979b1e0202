"""A plain Ray actor: episodes as arguments of a method; every agent is a driver of its own.

Arrays above 100 KB travel through Ray's shared memory, smaller ones with the call.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray

from tests.benchmarks.peers import contract

KEPT = 1000
OBJECT_STORE_BYTES = 2 * 10**9
_NAMESPACE = "benchmark"


@ray.remote(num_cpus=0)
class Receiver:
    def __init__(self) -> None:
        self._kept: deque[object] = deque(maxlen=KEPT)

    def put(self, episode: object) -> bool:
        self._kept.append(episode)
        return True

    def pid(self) -> int:
        return os.getpid()


class RayActor:
    @contextmanager
    def serve(self, folder: Path, variant: str) -> Iterator[contract.Address]:
        # num_cpus=0: Ray would start idle workers for every driver.
        context = ray.init(
            address="local",
            num_cpus=0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            namespace=_NAMESPACE,
            log_to_driver=False,
            logging_level="ERROR",
        )
        receiver = Receiver.options(name="receiver").remote()
        pid = ray.get(receiver.pid.remote())
        yield contract.Address(address=context.address_info["address"], pids=[pid])
        ray.shutdown()

    def deliver(
        self, address: str, agent: int, load: contract.Load, episodes: Sequence[bytes]
    ) -> Iterator[int]:
        # One after another: Ray ends a driver whose connection to the shared memory is not taken
        # at once, as happens when many come together.
        with contract.episodes_file(Path(load.episodes), "raw", 0).open("rb") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            ray.init(
                address=address, namespace=_NAMESPACE, log_to_driver=False, logging_level="ERROR"
            )
        receiver = ray.get_actor("receiver")
        values: list[Any] = list(episodes)
        if load.kind == "raw":
            values = [np.frombuffer(one, np.uint8).reshape(10, 64, 64, 3) for one in episodes]
        return contract.in_order(
            lambda number: receiver.put.remote(values[number % len(values)]),
            ray.get,
            load.window,
        )


if __name__ == "__main__":
    contract.main(RayActor())
