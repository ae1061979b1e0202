"""A learner that was broken into answers robots; not a line of ours speaks for it."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
import zmq

from protocol.codec import encode_episode
from protocol.security import load_curve_keys
from robot_agent.releases.receiver import ReleaseReceiver
from tests.delivery_site import DeliverySite
from tests.episodes import make_episode
from tests.releases import CALIBRATION, SIGNING_KEY, SIZE_PX, make_release
from tests.waiting import PATIENCE_S, wait_until

Say = Callable[..., None]
EPISODES = 40


@pytest.fixture
def site(site: DeliverySite) -> DeliverySite:
    site.enrol("arm")
    return site


@contextmanager
def hostile_learner(
    site: DeliverySite, answer: Callable[[dict[str, Any], Say], None]
) -> Iterator[None]:
    """Listen where the learner should; ``answer`` is given every message, and what speaks."""
    keys = load_curve_keys(site.folder / "keys" / "learner.secret")
    stop = threading.Event()

    def run() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.curve_server, router.linger = True, 0
            router.curve_publickey, router.curve_secretkey = keys.public, keys.secret
            router.bind(site.endpoint)
            while not stop.is_set():
                if router.poll(50):
                    peer, header, *_ = router.recv_multipart()

                    def say(*bodies: bytes, raw: bytes | None = None, **fields: Any) -> None:
                        frame = msgpack.packb(fields) if raw is None else raw
                        router.send_multipart([peer, frame, *bodies])  # noqa: B023 (used at once)

                    answer(msgpack.unpackb(header), say)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_acks_of_what_was_never_sent_and_rubbish_delete_nothing(
    site: DeliverySite, caplog: pytest.LogCaptureFixture
):
    outbox = site.outbox("arm")
    for seed in range(EPISODES):
        outbox.put(encode_episode(make_episode("arm", seed)))

    def answer(message: dict[str, Any], say: Say) -> None:
        if message["type"] == "hello":
            # Room for one record at a time: the others are never sent.
            welcome = {"wire_version": 2, "robot_id": "arm", "known_through": 2**53}
            say(type="welcome", window_bytes=1, **welcome)
            say(type="welcome", window_bytes=-1, **welcome)
        spool = outbox.spool_id
        say(type="ack", spool_id=spool, sequences=[*range(2, EPISODES + 1), 2**53])
        say(type="ack", spool_id=bytes(16), sequences=[1])
        say(type="ack", spool_id=spool, sequences=[math.nan])
        say(type="ack", spool_id=spool, sequences=[-1, 0, 2**63])
        say(type="ack", spool_id=spool, sequences=[1] * 4097)
        say(type="key_notice", next_public_key="k" * 40, signature=bytes(64))
        say(type="release_announcement", version=1, digest=bytes(32), size_bytes=1)
        for raw in (b"", b"\xc1", b"\x91" * 9000, b"\xdf\xff\xff\xff\xff", b"\0" * 60_000):
            say(raw=raw)
        say(*[b"x"] * 500, type="refusal", code="a\nb", reason="\x1b[2J" * 100)

    uplink = site.uplink("arm", outbox)
    with hostile_learner(site, answer):
        uplink.start()
        wait_until(lambda: "only 1 was sent" in caplog.text, "the ack is seen through")
        wait_until(lambda: uplink.stats.sent_episodes > 0, "delivering all the same")
    assert outbox.counts().acked == 0
    with site.running_gateway():
        assert uplink.close(PATIENCE_S), "an honest learner in its place gets everything"
    assert outbox.counts().acked == EPISODES
    outbox.close()


def test_a_learner_that_can_store_nothing_is_sent_one_record_at_a_time(
    site: DeliverySite, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.delivery.uplink.PAUSE_S", 0.1)
    outbox = site.outbox("arm")
    for seed in range(EPISODES):
        outbox.put(encode_episode(make_episode("arm", seed)))
    came: list[int] = []

    def answer(message: dict[str, Any], say: Say) -> None:
        if message["type"] == "hello":
            welcome = {"wire_version": 2, "robot_id": "arm", "known_through": 0}
            say(type="welcome", window_bytes=10**7, **welcome)
        if message["type"] == "episode":
            came.append(message["sequence"])
            say(type="refusal", code="store-full", reason="no room")

    uplink = site.uplink("arm", outbox)
    with hostile_learner(site, answer):
        uplink.start()
        wait_until(lambda: len(came) >= EPISODES + 4, "tried again a few times")
    assert came[:EPISODES] == list(range(1, EPISODES + 1))
    assert set(came[EPISODES:]) == {1}
    with site.running_gateway():
        assert uplink.close(PATIENCE_S), "an honest learner in its place gets everything"
    outbox.close()


def test_no_words_of_a_learner_steer_a_terminal_or_fake_a_line_of_the_log(
    site: DeliverySite, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    outbox = site.outbox("arm")
    outbox.put(encode_episode(make_episode("arm", 0)))

    def answer(message: dict[str, Any], say: Say) -> None:
        if message["type"] == "hello":
            welcome = {"wire_version": 2, "robot_id": "arm", "known_through": 0}
            say(type="welcome", window_bytes=10**7, **welcome)
        if message["type"] == "episode":
            spool, words = outbox.spool_id, "no\nWARNING all is well\x1b[2J"
            say(**{"type": "ack", "\x1b[2J\nWARNING": 1})
            say(type="redirect", endpoint="tcp://\x1b[2J:5701", gateways=[])
            say(type="refusal", code="record", reason=words, spool_id=spool, sequence=1)

    uplink = site.uplink("arm", outbox)
    with hostile_learner(site, answer):
        uplink.start()
        wait_until(lambda: "episode 1 is refused" in caplog.text, "the refusal is logged")
    uplink.close(0.0)
    outbox.close()
    assert "message of the learner is ignored" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_a_flood_of_announcements_and_wrong_chunks_ends_no_receiver(site: DeliverySite):
    release = make_release(2**20)
    state = site.folder / "state"
    state.mkdir()
    announced = iter(range(1, 10**6))

    def answer(message: dict[str, Any], say: Say) -> None:
        for _ in range(20):
            version = next(announced)
            fields = {"type": "release_announcement", "version": version}
            say(**fields, digest=version.to_bytes(32, "big"), size_bytes=2**31)
            say(**fields, digest=version.to_bytes(32, "big"), size_bytes=len(release))
            say(**fields, digest=bytes(31), size_bytes=0)
        if message["type"] == "chunk_request":
            version, offset = message["version"], message["offset"]
            say(b"", type="chunk", version=version, offset=offset)
            say(b"\0" * 2**20, type="chunk", version=version, offset=offset)
            say(type="chunk", version=version, offset=offset)
            say(b"x", type="chunk", version=version, offset=2**53)
            say(b"x", type="chunk", version=version + 1, offset=offset)
            say(release[:-1] + b"\0", type="chunk", version=version, offset=offset)
        say(raw=b"\xc1")
        say(b"x" * 1000, raw=b"")

    receiver = ReleaseReceiver(
        endpoint=site.endpoint,
        keys=site.keys_of("arm"),
        learner_keys=site.learner_keys("arm"),
        verify_key=SIGNING_KEY.public_key(),
        state_folder=state,
        robot_id="arm",
        calibration=CALIBRATION,
        height_px=SIZE_PX,
        width_px=SIZE_PX,
        subscribe_every_s=0.02,
    )
    with hostile_learner(site, answer):
        receiver.start()
        wait_until(lambda: receiver.refused > 1100, "refused by the hundred")
        assert receiver.alive
    receiver.close()
    assert receiver.version == 0
    assert receiver.take_newest() is None
    assert not (state / "release").exists()


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
