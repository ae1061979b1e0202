"""Ours: the learner's gateway with all it does before an ack.

CURVE and the registry, digest, schema and JPEG headers, ledger, LMDB commit; then the ack. It takes
JPEG records only: a raw episode is encoded by the agent that sends it, pixel by pixel.

The variant is how many gateways the machine has: each a process with a store of its own, under one
registry and one key, with its part of the robots. Their reports to each other, one a second, are
left out.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import zmq

from protocol.codec import decode_message, digest, encode_episode, encode_message
from protocol.limits import EPISODE_LIMITS, MAX_HEADER_BYTES
from protocol.messages import WIRE_VERSION, Ack, EpisodeSubmission, FromGateway, Hello, Welcome
from protocol.sockets import SocketLimits, connect, make_dealer
from tests.benchmarks.episodes import EPISODES, benchmark_episode
from tests.benchmarks.peers import contract
from tests.delivery_site import DeliverySite, make_site
from tests.free_ports import free_port

MAX_AGENTS = 64
STORE_BYTES = 8 * 10**9
_START_S = 30.0
LIMITS = SocketLimits(frame_bytes=EPISODE_LIMITS.record_bytes + MAX_HEADER_BYTES)


class OurGateway:
    @contextmanager
    def serve(self, folder: Path, variant: str) -> Iterator[contract.Address]:
        site = make_site(folder)
        for agent in range(MAX_AGENTS):
            site.enrol(contract.agent_name(agent))
        endpoints = [site.endpoint]
        endpoints += [f"tcp://127.0.0.1:{free_port()}" for _ in range(1, int(variant))]
        with ExitStack() as stack:
            pids = [stack.enter_context(_gateway(site, endpoint)) for endpoint in endpoints]
            yield address_of(folder, endpoints, pids)

    def deliver(
        self, address: str, agent: int, load: contract.Load, episodes: Sequence[bytes]
    ) -> Iterator[int]:
        endpoints, folder = address.split(maxsplit=1)
        name = contract.agent_name(agent)
        site = DeliverySite(Path(folder))
        dealer = make_dealer(zmq.Context(), site.keys_of(name), site.server_public(), LIMITS)
        own = endpoints.split(",")
        connect(dealer, own[agent % len(own)])
        spool_id = name.encode().ljust(16, b"\0")
        greet(dealer, name, spool_id)
        return _exchange(dealer, spool_id, records_of(name, load.kind, episodes), load.window)


def address_of(folder: Path, endpoints: Sequence[str], pids: Sequence[int]) -> contract.Address:
    """Return where agents find gateways, whose keys and registry are those of a folder's site."""
    return contract.Address(address=f"{','.join(endpoints)} {folder}", pids=pids)


@contextmanager
def _gateway(site: DeliverySite, endpoint: str) -> Iterator[int]:
    """Run a gateway in a process of its own; give the process's id."""
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    process = context.Process(target=_run_gateway, args=(site, endpoint, ready, stop))
    process.start()
    if not ready.wait(_START_S):
        raise SystemExit(f"no gateway at {endpoint} within {_START_S:.0f} s")
    assert process.pid is not None
    yield process.pid
    stop.set()
    process.join()


def _run_gateway(site: DeliverySite, endpoint: str, ready: Event, stop: Event) -> None:
    store = site.store / endpoint.rpartition(":")[2]
    gateway = site.gateway(bind=endpoint, store=store, max_store_bytes=STORE_BYTES)
    gateway.start()
    ready.set()
    stop.wait()
    gateway.stop()


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
