"""Peers that pass the handshake and then misbehave, and some that never pass it."""

from __future__ import annotations

import logging
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from learner.ingestion.gateway import Gateway
from protocol.codec import encode_episode, encode_message
from protocol.limits import LOGGED_REFUSALS
from protocol.message_rate import MessageRate
from protocol.messages import Ack, Refusal, Welcome
from tests.curve_client import CurveClient
from tests.delivery_site import DeliverySite, make_heartbeat
from tests.episodes import make_episode
from tests.peer import Peer
from tests.waiting import PATIENCE_S, wait_until

MIB = 2**20


@pytest.fixture
def hostile(site: DeliverySite, gateway: Gateway) -> Iterator[Peer]:
    peer = Peer(site, site.enrol("hostile"))
    peer.hello("hostile")
    yield peer
    peer.close()


def deliver(site: DeliverySite, name: str, episodes: int) -> None:
    """Let a robot deliver so many episodes; fails when it cannot."""
    site.enrol(name)
    outbox = site.outbox(name)
    for seed in range(episodes):
        outbox.put(encode_episode(make_episode(name, seed)))
    uplink = site.uplink(name, outbox)
    uplink.start()
    delivered = uplink.close(PATIENCE_S)
    outbox.close()
    assert delivered


def test_a_flood_is_told_so_once_and_others_deliver_meanwhile(
    site: DeliverySite,
    gateway: Gateway,
    hostile: Peer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    beat = encode_message(make_heartbeat())
    for _ in range(30_000):
        hostile.send(beat)
    refusal = hostile.receive()
    assert isinstance(refusal, Refusal)
    assert refusal.code == "rate"
    deliver(site, "arm", 20)
    assert caplog.text.count("(rate)") == 1
    (robot,) = (robot for robot in gateway.status().robots if robot.robot_id == "hostile")
    assert robot.refused > 1
    assert any("messages a second" in warning for warning in robot.warnings)


def test_rubbish_without_end_fills_no_log(
    site: DeliverySite, gateway: Gateway, hostile: Peer, caplog: pytest.LogCaptureFixture
):
    for _ in range(5_000):
        hostile.send(b"\xc1" * 100)
    wait_until(lambda: gateway.refusals().get("malformed", 0) > LOGGED_REFUSALS, "refused")
    deliver(site, "arm", 5)
    lines = [line for line in caplog.text.splitlines() if "hostile is refused" in line]
    assert LOGGED_REFUSALS <= len(lines) <= LOGGED_REFUSALS + 1


def test_greetings_without_end_fill_no_log(
    gateway: Gateway, hostile: Peer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    for number in range(50):
        hostile.hello("hostile", software_version=str(number) * 80)
    lines = [line for line in caplog.messages if "hostile connected" in line]
    assert len(lines) <= LOGGED_REFUSALS
    assert max(map(len, lines)) < 160


def test_what_a_peer_sends_cannot_fake_a_line_of_the_log(
    hostile: Peer, caplog: pytest.LogCaptureFixture
):
    welcome = hostile.hello("hostile", software_version="1\nWARNING all is well \x1b[2J")
    assert isinstance(welcome, Welcome)
    assert "\nWARNING all is well" not in caplog.text
    assert "\x1b" not in caplog.text


def test_a_flood_loses_no_episode_of_the_robot_that_sends_it(
    site: DeliverySite, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.delivery.uplink.PAUSE_S", 0.2)
    monkeypatch.setattr("robot_agent.delivery.uplink.RESEND_AFTER_S", 0.5)
    monkeypatch.setattr(
        "learner.ingestion.reception.MessageRate", partial(MessageRate, per_s=100, burst=20)
    )
    with site.running_gateway() as gateway:
        deliver(site, "arm", 60)
        (robot,) = gateway.status().robots
    assert (robot.stored, robot.missing) == (60, 0)
    assert gateway.refusals()["rate"] > 0


def test_a_message_without_end_does_not_fill_the_memory(
    site: DeliverySite,
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr("protocol.server_socket.MAX_SERVER_MEMORY_BYTES", 64 * MIB)
    monkeypatch.setattr("learner.ingestion.gateway.MAX_QUEUED_BYTES", 16 * MIB)
    keys = site.enrol("hostile")
    with CurveClient(site.endpoint, keys, site.server_public()) as client, pytest.raises(OSError):
        for _ in range(2_000):
            client.send_part(bytes(MIB), more=True)
    wait_until(lambda: gateway.status().warnings != [], "the operator is told")
    assert "look for a robot that sends much and delivers nothing" in caplog.text
    deliver(site, "arm", 5)


def test_a_robot_that_reads_no_acks_delays_nobody(site: DeliverySite, gateway: Gateway):
    deaf = Peer(site, site.enrol("deaf"))
    deaf.hello("deaf")
    record = encode_episode(make_episode("deaf"))
    for sequence in range(1, 3_001):
        deaf.submit_only(sequence, record)
    deliver(site, "arm", 50)
    wait_until(
        lambda: {robot.robot_id: robot.stored for robot in gateway.status().robots}["deaf"] > 2_000,
        "what the deaf one sends is stored all the same",
    )
    assert isinstance(deaf.receive(), Ack)
    deaf.close()


def test_connections_that_never_shake_hands_keep_no_robot_out(
    site: DeliverySite,
):
    site.enrol("arm")
    process = site.start("gateway")
    try:
        early = Peer(site, site.enrol("early"))
        assert isinstance(early.hello("early"), Welcome)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (64, 64))
        host, port = site.endpoint.removeprefix("tcp://").split(":")
        with ExitStack() as strangers:
            for _ in range(60):
                stranger = strangers.enter_context(socket.socket())
                stranger.setblocking(False)
                with suppress(BlockingIOError):
                    stranger.connect((host, int(port)))
            assert isinstance(early.submit(1, encode_episode(make_episode("early"))), Ack)
            # Who never shakes hands is cut off when the deadline for that has passed.
            late = Peer(site, site.keys_of("arm"))
            late.wait_s(2 * PATIENCE_S)
            assert isinstance(late.hello("arm"), Welcome)
            assert isinstance(early.submit(2, encode_episode(make_episode("early"))), Ack)
        late.close()
        early.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_a_learner_that_is_stopped_never_holds_up_a_robots_attempts(site: DeliverySite):
    site.enrol("arm")
    process = site.start("gateway")
    outbox = site.outbox("arm")
    uplink = site.uplink("arm", outbox)
    uplink.start()
    wait_until(lambda: uplink.stats.is_welcome, "connected")
    process.send_signal(signal.SIGSTOP)
    try:
        spooled = threading.Event()

        def make_attempts() -> None:
            for seed in range(100):
                outbox.put(encode_episode(make_episode("arm", seed)))
                uplink.notify()
            spooled.set()

        threading.Thread(target=make_attempts, daemon=True).start()
        assert spooled.wait(PATIENCE_S)
    finally:
        process.send_signal(signal.SIGCONT)
    assert uplink.close(PATIENCE_S)
    assert outbox.counts().acked == 100
    outbox.close()
    process.kill()
    process.wait()
