"""A bare ROUTER that acks what it gets, see ``baselines``.

Variants ``plain`` and ``curve`` ack from RAM; ``commit`` is under CURVE and acks after an LMDB
commit on the same thread.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Value
from pathlib import Path

import zmq

from protocol.codec import digest, encode_message
from protocol.messages import EpisodeSubmission
from protocol.sockets import connect, make_dealer
from tests.benchmarks.baselines import LIMITS, serve_bare, serve_bare_and_commit
from tests.benchmarks.peers import contract
from tests.delivery_site import DeliverySite, make_site


class BareRouter:
    @contextmanager
    def serve(self, folder: Path, variant: str) -> Iterator[contract.Address]:
        site = make_site(folder)
        site.make_keys("agent")
        keys = None if variant == "plain" else site.keys_of("learner")
        ready, stop, cpu_s = threading.Event(), threading.Event(), Value("d", 0.0)
        if variant == "commit":
            target, folders = serve_bare_and_commit, (folder / "log",)
        else:
            target, folders = serve_bare, ()
        arguments = (site.endpoint, keys, *folders, ready, stop, cpu_s)
        server = threading.Thread(target=target, args=arguments, daemon=True)
        server.start()
        if not ready.wait(10):
            sys.exit(f"the bare ROUTER does not listen at {site.endpoint}")
        yield contract.Address(address=f"{variant} {folder}", pids=[os.getpid()])
        stop.set()
        server.join()

    def deliver(
        self, address: str, agent: int, load: contract.Load, episodes: Sequence[bytes]
    ) -> Iterator[int]:
        variant, folder = address.split(maxsplit=1)
        site = DeliverySite(Path(folder))
        context = zmq.Context()
        if variant == "plain":
            dealer = context.socket(zmq.DEALER)
        else:
            dealer = make_dealer(context, site.keys_of("agent"), site.server_public(), LIMITS)
        connect(dealer, site.endpoint)
        headers = [
            encode_message(EpisodeSubmission(spool_id=bytes(16), sequence=1, digest=digest(one)))
            for one in episodes
        ]
        return _exchange(dealer, list(zip(headers, episodes, strict=True)), load.window)


def _exchange(
    dealer: zmq.Socket[bytes], messages: Sequence[tuple[bytes, bytes]], window: int
) -> Iterator[int]:
    number = under_way = 0
    while True:
        while under_way < window:
            dealer.send_multipart(messages[number % len(messages)])
            number += 1
            under_way += 1
        dealer.recv()
        under_way -= 1
        yield 1


if __name__ == "__main__":
    contract.main(BareRouter())
