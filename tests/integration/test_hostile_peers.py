"""Robots that were broken into attack the gateway; an honest one delivers as if nothing were."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import cv2
import msgpack
import numpy as np
import psutil
import pytest

from protocol.codec import encode_episode
from robot_agent.delivery.outbox_file import FILE_NAME
from tests.chaos.independent_reader import compare, read_store
from tests.delivery_site import DeliverySite, make_site
from tests.episodes import make_episode, make_image
from tests.faulty_link import FaultyLink
from tests.hostile_peer import SPOOL, HostilePeer
from tests.waiting import PATIENCE_S, wait_until

EPISODES = 60
MEMORY_MB = 400
"""The gateway's process, attacked or not; one that serves a single robot takes about 100."""
ATTACK_S = 0.5
"""Before the honest robot begins; the attack goes on until it has delivered."""

Attack = Callable[[HostilePeer, threading.Event], None]


@dataclass(frozen=True)
class Target:
    """A gateway in a process of its own, and the honest and hostile robots enrolled there."""

    site: DeliverySite
    process: subprocess.Popen[bytes]

    def hostile(self, name: str, endpoint: str | None = None) -> HostilePeer:
        keys = self.site.folder / "keys"
        if not (keys / f"{name}.secret").exists():
            self.site.enrol(name)
        return HostilePeer(
            endpoint or self.site.endpoint, keys / f"{name}.secret", keys / "learner.key", name
        )

    @property
    def memory_mb(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    @property
    def log(self) -> str:
        return (self.site.folder / "gateway.log").read_text()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    site = make_site(tmp_path_factory.mktemp("hostile"))
    site.enrol("first")
    target = Target(site, site.start("gateway"))
    wait_until(lambda: "gateway listens" in target.log, "listening")
    yield target
    target.process.terminate()
    assert target.process.wait(PATIENCE_S) == 0, "the gateway ends in order after all of it"


def attacked(target: Target, attack: Attack, name: str) -> float:
    """Attack while an honest robot delivers; return the most memory that the gateway took, MB."""
    peak_mb = target.memory_mb
    honest = f"honest-{name}"
    target.site.enrol(honest)
    outbox = target.site.outbox(honest)
    uplink = target.site.uplink(honest, outbox)
    with target.hostile(name) as peer, going_on(attack, peer) as stop:
        stop.wait(ATTACK_S)
        uplink.start()
        for seed in range(EPISODES):
            outbox.put(encode_episode(make_episode(honest, seed)))
            uplink.notify()
            peak_mb = max(peak_mb, target.memory_mb)
        wait_until(lambda: outbox.counts().waiting == 0, "delivered")
        peak_mb = max(peak_mb, target.memory_mb)
    uplink.close(0.0)
    outbox.close()
    records = [one for one in read_store(target.site.store) if one.key[0] == honest]
    files = {honest: target.site.outbox_folder(honest) / FILE_NAME}
    found = compare(records, files, {})
    assert found.expected == EPISODES
    assert found.is_clean, found
    assert target.process.poll() is None, "the gateway died"
    print(f"{name}: the gateway took {peak_mb:.0f} MB at most")
    return peak_mb


@contextlib.contextmanager
def going_on(attack: Attack, peer: HostilePeer) -> Iterator[threading.Event]:
    """Attack from a thread, which ends before the peer is closed; yield what stops it."""
    stop = threading.Event()
    thread = threading.Thread(target=attack, args=(peer, stop))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def flood_of_hellos(peer: HostilePeer, stop: threading.Event) -> None:
    while not stop.is_set():
        peer.hello(software_version="x" * 512)


def flood_of_heartbeats(peer: HostilePeer, stop: threading.Event) -> None:
    peer.greet()
    while not stop.is_set():
        peer.say(**heartbeat())


def heartbeat(**changes: object) -> dict[str, object]:
    counts = ("attempts", "successes", "outbox_episodes", "outbox_bytes", "sent_bytes")
    fields = dict.fromkeys((*counts, "reconnects", "release_version"), 1)
    texts = {"type": "heartbeat", "policy_digest": "", "mode": "\n\x1b[2J"}
    return fields | texts | {"decision_ms_p50": 1.0, "decision_ms_p99": 1.0} | changes


def flood_of_questions(peer: HostilePeer, stop: threading.Event) -> None:
    while not stop.is_set():
        peer.say(type="status_request")


def flood_of_tombstones(peer: HostilePeer, stop: threading.Event) -> None:
    peer.greet()
    ends = count(4096, 8192)
    while not stop.is_set():
        last = next(ends)
        buried = {"sequence": last - 4095, "last_sequence": last, "reason": "r" * 512}
        peer.say(type="tombstone", spool_id=SPOOL, **buried)


def impossible_tombstones(peer: HostilePeer, stop: threading.Event) -> None:
    peer.greet()
    ranges = [(1, 2**53), (5, 4), (0, 1), (-1, 1), (1, 4098), (2**53, 2**53 + 1)]
    while not stop.is_set():
        for first, last in ranges:
            buried = {"sequence": first, "last_sequence": last, "reason": ""}
            peer.say(type="tombstone", spool_id=SPOOL, **buried)
        stop.wait(0.05)


def headers_that_lie(peer: HostilePeer, stop: threading.Event) -> None:
    peer.greet()
    twice = msgpack.packb({"type": "status_request"})
    pair = twice[1:]
    while not stop.is_set():
        for fields in (
            heartbeat(decision_ms_p50=math.nan),
            heartbeat(decision_ms_p99=math.inf),
            heartbeat(attempts=-1),
            heartbeat(attempts=2**63),
            heartbeat(attempts=1.5),
            heartbeat(warnings=["w"] * 17),
            heartbeat(policy_digest="x" * 513),
            heartbeat(surprise=1),
            {"type": "heartbeat"},
            {"type": "no such thing\n2026-01-01 root INFO all is well"},
            {"type": ["hello"]},
            {"type": "hello", "wire_version": "2"},
        ):
            peer.say(**fields)
        for raw in (
            b"",
            b"\xc1",
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\x82" + pair + pair,
            b"\x91" * 60_000 + b"\xc0",
            b"\x81\xa4type" + b"\x81\xa1a" * 20_000 + b"\xc0",
            msgpack.packb({"type": "heartbeat", "mode": "m" * 65_000}),
            msgpack.packb([1] * 60_000),
        ):
            peer.send(raw)
        stop.wait(0.05)


def messages_of_many_parts(peer: HostilePeer, stop: threading.Event) -> None:
    peer.greet()
    while not stop.is_set():
        peer.send(msgpack.packb({"type": "status_request"}), *[b"x" * 100] * 4095)
        peer.send(*[b""] * 4096)
        stop.wait(0.02)


def messages_too_large(peer: HostilePeer, stop: threading.Event) -> None:
    peer.greet()
    while not stop.is_set():
        peer.send(b"\0" * 200_000)
        peer.send(b"h", b"\0" * 9 * 2**20)
        stop.wait(0.1)


def records_that_lie(peer: HostilePeer, stop: threading.Event) -> None:
    peer.greet()
    records = [bytes(record) for record in _hostile_records(peer.name)]
    while not stop.is_set():
        for record in records:
            peer.submit(record)
        peer.submit(records[0], digest=bytes(32))
        peer.submit(records[0], sequence=2**53)
        peer.submit(records[0], sequence=2**53 + 1)
        peer.submit(records[0], spool_id=b"short")
        stop.wait(0.1)


def _hostile_records(name: str) -> Iterator[bytes]:
    record = encode_episode(make_episode(name, 1))
    size = int.from_bytes(record[6:10], "little")
    meta, images = msgpack.unpackb(record[10 : 10 + size]), record[10 + size :]

    def packed(images: bytes = images, **changes: object) -> bytes:
        changed = msgpack.packb(meta | changes)
        return b"GFEP\1\0" + struct.pack("<I", len(changed)) + changed + images

    yield b""
    yield b"GFEP"
    yield record[:-1]
    yield b"GFEP\1\0" + b"\xff" * 4
    yield packed(robot_id="somebody-else")
    yield packed(steps=meta["steps"] * 300)
    yield packed(image_bytes=[2**62] * 6)
    yield packed(image_bytes=meta["image_bytes"][:-1])
    yield packed(height_px=65_535, width_px=65_535)
    yield packed(started_at_ns=-1)
    yield packed(hand_eye_map=[math.nan] * 12)
    yield packed(calibration=[math.inf] * 12)
    yield packed(hand_eye_map=[1e300] * 12)
    yield packed(hand_eye_map=b"\0" * 48)
    first = meta["image_bytes"][0]
    bomb = images[:first].replace(struct.pack(">HH", 64, 64), b"\xff\xff\xff\xff", 1)
    yield packed(bomb + images[first:])
    picture = make_image(np.random.default_rng(0))
    progressive = bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])
    sizes = [len(progressive), *meta["image_bytes"][1:]]
    yield packed(progressive + images[first:], image_bytes=sizes)
    sizes = [first // 2, *meta["image_bytes"][1:]]
    yield packed(images[: first // 2] + images[first:], image_bytes=sizes)


def sends_and_never_reads(peer: HostilePeer, stop: threading.Event) -> None:
    peer.hello()
    record = encode_episode(make_episode(peer.name, 1))
    while not stop.is_set():
        peer.submit(record)
        peer.submit(b"refused")


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (flood_of_hellos, "rate"),
        (flood_of_heartbeats, "rate"),
        (flood_of_questions, "not-an-operator"),
        (flood_of_tombstones, ""),
        (impossible_tombstones, "tombstone"),
        (headers_that_lie, "malformed"),
        (messages_of_many_parts, "malformed"),
        (messages_too_large, "malformed"),
        (records_that_lie, "record"),
        (sends_and_never_reads, "record"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_an_enrolled_robot_that_is_hostile_harms_nobody_else(
    target: Target, attack: Attack, code: str
):
    name = attack.__name__
    assert attacked(target, attack, name) < MEMORY_MB
    assert not code or f"{name} is refused ({code})" in target.log
    forged = [line for line in target.log.splitlines() if line.startswith("2026-01-01 root")]
    assert forged == [], "a peer wrote a line of the log"
    assert "Traceback" not in target.log


def test_hundreds_of_connections_that_come_and_go_harm_nobody(target: Target):
    target.hostile("many").close()

    def attack(_peer: HostilePeer, stop: threading.Event) -> None:
        while not stop.is_set():
            crowd = [target.hostile("many") for _ in range(20)]
            for one in crowd:
                one.hello()
            for one in crowd:
                one.close()

    assert attacked(target, attack, "come_and_go") < MEMORY_MB


def test_strangers_who_connect_and_say_nearly_nothing_harm_nobody(target: Target):
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + b"\0" + bytes(31)
    port = int(target.site.endpoint.rsplit(":", 1)[1])

    def attack(_peer: HostilePeer, stop: threading.Event) -> None:
        with contextlib.ExitStack() as open_ones:
            crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
            for at, one in enumerate(crowd):
                open_ones.enter_context(one)
                with contextlib.suppress(OSError):
                    one.sendall(greeting[: at % (len(greeting) + 1)] + bytes(at % 3))
            stop.wait()

    assert attacked(target, attack, "slow_strangers") < MEMORY_MB


def test_a_robot_that_sends_a_byte_at_a_time_harms_nobody(target: Target):
    port = int(target.site.endpoint.rsplit(":", 1)[1])
    with FaultyLink(port) as link, target.hostile("slow", link.endpoint) as slow:
        slow.greet()
        link.bytes_per_s = 40

        def attack(_peer: HostilePeer, stop: threading.Event) -> None:
            while not stop.is_set():
                slow.submit(bytes(100_000))
                stop.wait(0.2)

        assert attacked(target, attack, "slow_loris") < MEMORY_MB
