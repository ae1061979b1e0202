"""Reverb: a table in RAM, written over its C++ client.

Variant ``window``: a TrajectoryWriter that lets a window of items be unconfirmed, the fastest way
there is. Variant ``insert``: ``Client.insert``, the way its readme begins with, which waits for
every item.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import reverb

from tests.benchmarks.peers import contract

TABLE = "episodes"
KEPT = 1000


class ReverbTables:
    @contextmanager
    def serve(self, folder: Path, variant: str) -> Iterator[contract.Address]:
        table = reverb.Table(
            name=TABLE,
            sampler=reverb.selectors.Uniform(),
            remover=reverb.selectors.Fifo(),
            max_size=KEPT,
            rate_limiter=reverb.rate_limiters.MinSize(1),
        )
        server = reverb.Server(tables=[table], port=None)
        yield contract.Address(address=f"{variant} localhost:{server.port}", pids=[os.getpid()])
        server.stop()

    def deliver(
        self, address: str, agent: int, load: contract.Load, episodes: Sequence[bytes]
    ) -> Iterator[int]:
        variant, endpoint = address.split()
        # A string: arrays of one column must be of one shape.
        values: list[Any] = list(episodes)
        if load.kind == "raw":
            values = [np.frombuffer(one, np.uint8).reshape(10, 64, 64, 3) for one in episodes]
        client = reverb.Client(endpoint)
        if variant == "insert":
            return _insert(client, values)
        return _write(client, values, load.window)


def _insert(client: Any, values: Sequence[Any]) -> Iterator[int]:
    for value in itertools.cycle(values):
        client.insert(value, priorities={TABLE: 1.0})
        yield 1


def _write(client: Any, values: Sequence[Any], window: int) -> Iterator[int]:
    with client.trajectory_writer(num_keep_alive_refs=1) as writer:
        for number, value in enumerate(itertools.cycle(values), start=1):
            writer.append(value)
            writer.create_item(TABLE, 1.0, writer.history[-1:])
            writer.flush(block_until_num_items=window - 1)
            if number >= window:
                yield 1


if __name__ == "__main__":
    contract.main(ReverbTables())
