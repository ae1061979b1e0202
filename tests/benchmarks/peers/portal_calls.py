"""Portal: episodes as arguments of a bound method; its client keeps a window of calls under way.

More threads for the method make it slower (the interpreter's lock), and its BatchServer takes only
arrays of one shape, so one worker it is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import portal

from tests.benchmarks.peers import contract

KEPT = 1000


class PortalCalls:
    @contextmanager
    def serve(self, folder: Path, variant: str) -> Iterator[contract.Address]:
        kept: deque[object] = deque(maxlen=KEPT)

        def put(episode: object) -> bool:
            kept.append(episode)
            return True

        port = portal.free_port()
        server = portal.Server(port, logging=False)
        server.bind("put", put)
        server.start(block=False)
        yield contract.Address(address=f"localhost:{port}", pids=[os.getpid()])

    def deliver(
        self, address: str, agent: int, load: contract.Load, episodes: Sequence[bytes]
    ) -> Iterator[int]:
        client = portal.Client(address, maxinflight=load.window, logging=False)
        values: list[Any] = list(episodes)
        if load.kind == "raw":
            values = [np.frombuffer(one, np.uint8).reshape(10, 64, 64, 3) for one in episodes]
        return contract.in_order(
            lambda number: client.put(values[number % len(values)]),
            lambda futures: [future.result() for future in futures],
            load.window,
        )


if __name__ == "__main__":
    contract.main(PortalCalls())
