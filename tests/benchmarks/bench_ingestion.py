"""Durable, encrypted ingestion at eight agents, against bare sockets on the same machine.

    python -m tests.benchmarks.bench_ingestion [SECONDS]

Every side moves the same JPEG episode records with the same window. ``gateway`` is the whole
learner's side: CURVE, per-message authentication, digest, header checks, LMDB commit, then the
ack. ``bare CURVE`` and ``bare`` are a ROUTER that answers every message at once.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import zmq

from protocol.codec import decode_message, digest, encode_episode, encode_message
from protocol.limits import EPISODE_LIMITS, MAX_HEADER_BYTES
from protocol.messages import WIRE_VERSION, Ack, EpisodeSubmission, FromGateway, Hello, Welcome
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits, connect, make_dealer
from tests.delivery_site import DeliverySite, make_site
from tests.episodes import make_episode

AGENTS = 8
WINDOW = 64
LIMITS = SocketLimits(frame_bytes=EPISODE_LIMITS.record_bytes + MAX_HEADER_BYTES)

Context = multiprocessing.get_context("spawn")


def serve_gateway(site: DeliverySite, ready: Event, stop: Event, cpu_s: object) -> None:
    gateway = site.gateway()
    gateway.start()
    started_s = time.process_time()
    ready.set()
    stop.wait()
    cpu_s.value = time.process_time() - started_s
    gateway.stop()


def serve_bare(site: DeliverySite, secure: bool, ready: Event, stop: Event, cpu_s: object) -> None:
    router = zmq.Context().socket(zmq.ROUTER)
    router.setsockopt(zmq.RCVHWM, LIMITS.receive_queue)
    if secure:
        keys = site.keys_of("learner")
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        router.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    router.bind(site.endpoint)
    started_s = time.process_time()
    ready.set()
    while not stop.is_set():
        if router.poll(100):
            frames = router.recv_multipart(copy=False)
            router.send_multipart([frames[0], frames[1]], copy=False)
    cpu_s.value = time.process_time() - started_s


def run_agent(site: DeliverySite, name: str, kind: str, seconds: float, acked: object) -> None:
    """Keep ``WINDOW`` records under way; count the acks that came within ``seconds``."""
    keys = site.keys_of(name)
    dealer = _dealer(site, keys, secure=kind != "bare")
    # Different records: a store must not be able to gain from repetition.
    records = [encode_episode(make_episode(name, seed)) for seed in range(16)]
    digests = [digest(record) for record in records]
    spool_id = name.encode().ljust(16, b"\0")
    if kind == "gateway":
        _greet(dealer, name, spool_id)
    sequence = under_way = count = 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        while under_way < WINDOW:
            sequence += 1
            header = EpisodeSubmission(
                spool_id=spool_id, sequence=sequence, digest=digests[sequence % 16]
            )
            dealer.send_multipart([encode_message(header), records[sequence % 16]])
            under_way += 1
        if dealer.poll(1000):
            answered = 1
            frame = dealer.recv()
            if kind == "gateway":
                ack: Ack = decode_message(frame, FromGateway)
                answered = len(ack.sequences)
            under_way -= answered
            count += answered
    acked.value = count


def _dealer(site: DeliverySite, keys: CurveKeys, *, secure: bool) -> zmq.Socket[bytes]:
    context = zmq.Context()
    if secure:
        dealer = make_dealer(context, keys, site.server_public(), LIMITS)
    else:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
    connect(dealer, site.endpoint)
    return dealer


def _greet(dealer: zmq.Socket[bytes], name: str, spool_id: bytes) -> None:
    hello = Hello(
        wire_version=WIRE_VERSION,
        software_version="benchmark",
        claimed_name=name,
        spool_id=spool_id,
        next_sequence=1,
    )
    dealer.send(encode_message(hello))
    answer = decode_message(dealer.recv(), FromGateway)
    assert isinstance(answer, Welcome), answer


def measure(folder: Path, kind: str, seconds: float) -> tuple[float, float]:
    """Return acked episodes per second of all agents, and the server's CPU us for each."""
    site = make_site(folder)
    names = [f"agent-{index}" for index in range(AGENTS)]
    for name in names:
        site.enrol(name)
    ready, stop, cpu_s = Context.Event(), Context.Event(), Context.Value("d", 0.0)
    if kind == "gateway":
        server = Context.Process(target=serve_gateway, args=(site, ready, stop, cpu_s))
    else:
        server = Context.Process(
            target=serve_bare, args=(site, kind == "bare CURVE", ready, stop, cpu_s)
        )
    server.start()
    ready.wait()
    counts = [Context.Value("q", 0) for _ in names]
    agents = [
        Context.Process(target=run_agent, args=(site, name, kind, seconds, count))
        for name, count in zip(names, counts, strict=True)
    ]
    for agent in agents:
        agent.start()
    for agent in agents:
        agent.join()
    stop.set()
    server.join()
    episodes = sum(count.value for count in counts)
    return episodes / seconds, cpu_s.value / episodes * 1e6


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    result: dict[str, float] = {
        "agents": AGENTS,
        "record_bytes": len(encode_episode(make_episode("agent-0", 0))),
    }
    for kind in ("bare", "bare CURVE", "gateway"):
        with tempfile.TemporaryDirectory() as folder:
            rate, cpu_us = measure(Path(folder), kind, seconds)
        result[f"{kind}, episodes/s"] = round(rate)
        result[f"{kind}, server CPU us per episode"] = round(cpu_us, 1)
    ours = result["gateway, episodes/s"]
    result["ratio to bare CURVE"] = round(ours / result["bare CURVE, episodes/s"], 3)
    result["ratio to bare"] = round(ours / result["bare, episodes/s"], 3)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
