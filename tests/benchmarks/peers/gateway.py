"""Ours: the learner's gateway with all it does before an ack.

CURVE and the registry, digest, schema and JPEG headers, ledger, LMDB commit; then the ack. It takes
JPEG records only: a raw episode is encoded by the agent that sends it, pixel by pixel.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import zmq

from protocol.codec import decode_message, digest, encode_episode, encode_message
from protocol.limits import EPISODE_LIMITS, MAX_HEADER_BYTES
from protocol.messages import WIRE_VERSION, Ack, EpisodeSubmission, FromGateway, Hello, Welcome
from protocol.sockets import SocketLimits, connect, make_dealer
from tests.benchmarks.episodes import EPISODES, benchmark_episode
from tests.benchmarks.peers import contract
from tests.delivery_site import DeliverySite, make_site

MAX_AGENTS = 64
LIMITS = SocketLimits(frame_bytes=EPISODE_LIMITS.record_bytes + MAX_HEADER_BYTES)


class OurGateway:
    @contextmanager
    def serve(self, folder: Path, variant: str) -> Iterator[contract.Address]:
        site = make_site(folder)
        for agent in range(MAX_AGENTS):
            site.enrol(contract.agent_name(agent))
        gateway = site.gateway(max_store_bytes=8 * 10**9)
        gateway.start()
        yield contract.Address(address=str(folder), pid=os.getpid())
        gateway.stop()

    def deliver(
        self, address: str, agent: int, load: contract.Load, episodes: Sequence[bytes]
    ) -> Iterator[int]:
        name = contract.agent_name(agent)
        site = DeliverySite(Path(address))
        dealer = make_dealer(zmq.Context(), site.keys_of(name), site.server_public(), LIMITS)
        connect(dealer, site.endpoint)
        spool_id = name.encode().ljust(16, b"\0")
        greet(dealer, name, spool_id)
        return _exchange(dealer, spool_id, records_of(name, load.kind, episodes), load.window)


def greet(dealer: zmq.Socket[bytes], name: str, spool_id: bytes) -> None:
    """Say hello and wait for the welcome."""
    hello = Hello(
        wire_version=WIRE_VERSION,
        software_version="benchmark",
        claimed_name=name,
        spool_id=spool_id,
        next_sequence=1,
    )
    dealer.send(encode_message(hello))
    answer = decode_message(dealer.recv(), FromGateway)
    if not isinstance(answer, Welcome):
        raise SystemExit(f"{name} is not welcome: {answer}")


def submission(spool_id: bytes, sequence: int, record: bytes, record_digest: bytes) -> list[bytes]:
    """Return the frames of one episode."""
    header = EpisodeSubmission(spool_id=spool_id, sequence=sequence, digest=record_digest)
    return [encode_message(header), record]


def records_of(
    name: str, kind: contract.Kind, episodes: Sequence[bytes]
) -> Callable[[], tuple[bytes, bytes]]:
    """Return what gives the next record and its digest."""
    if kind == "jpeg":
        # The outbox has computed the digest when the record was put there.
        ready = itertools.cycle([(record, digest(record)) for record in episodes])
        return lambda: next(ready)
    raw = itertools.cycle([benchmark_episode(name, seed) for seed in range(EPISODES)])

    def encode_next() -> tuple[bytes, bytes]:
        record = encode_episode(next(raw))
        return record, digest(record)

    return encode_next


def _exchange(
    dealer: zmq.Socket[bytes],
    spool_id: bytes,
    next_record: Callable[[], tuple[bytes, bytes]],
    window: int,
) -> Iterator[int]:
    sequence = under_way = 0
    while True:
        while under_way < window:
            sequence += 1
            dealer.send_multipart(submission(spool_id, sequence, *next_record()))
            under_way += 1
        ack = decode_message(dealer.recv(), FromGateway)
        if not isinstance(ack, Ack):
            raise SystemExit(f"the gateway answers {ack}")
        under_way -= len(ack.sequences)
        yield len(ack.sequences)


if __name__ == "__main__":
    contract.main(OurGateway())
