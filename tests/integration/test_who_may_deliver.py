"""Who may deliver: refusals under CURVE, and what both sides say of them."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from learner.ingestion.gateway import Gateway
from protocol.codec import digest, encode_episode, encode_message
from protocol.errors import ConfigurationError
from protocol.messages import (
    WIRE_VERSION,
    Ack,
    Refusal,
    StatusReply,
    StatusRequest,
    Tombstone,
    Welcome,
)
from tests.delivery_site import DeliverySite, make_heartbeat
from tests.episodes import make_episode
from tests.peer import SPOOL, Peer
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def peer(site: DeliverySite, gateway: Gateway) -> Iterator[Peer]:
    """Robot ``arm`` as it may also behave."""
    peer = Peer(site, site.enrol("arm"))
    yield peer
    peer.close()


def test_an_unknown_key_is_refused_and_both_sides_say_so(
    site: DeliverySite, gateway: Gateway, caplog: pytest.LogCaptureFixture
):
    stranger = site.make_keys("stranger")
    outbox = site.outbox("stranger")
    outbox.put(encode_episode(make_episode("stranger")))
    uplink = site.uplink("stranger", outbox, keys=stranger)
    uplink.start()
    wait_until(lambda: "not enrolled" in uplink.trouble, "the robot says that it is refused")
    assert gateway.refusals()["connection"] >= 1
    assert "is not enrolled; run 'fleet enrol'" in caplog.text
    assert not uplink.close(0.0)
    assert outbox.counts().waiting == 1
    outbox.close()


def test_a_robot_that_is_enrolled_later_gets_in_by_itself(
    site: DeliverySite, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.learner_connection.RETRY_REFUSED_AFTER_S", 0.2)
    keys = site.make_keys("late")
    outbox = site.outbox("late")
    outbox.put(encode_episode(make_episode("late")))
    uplink = site.uplink("late", outbox)
    uplink.start()
    wait_until(lambda: "not enrolled" in uplink.trouble, "refused at first")
    site.registry.enrol("late", keys.public.decode())
    wait_until(lambda: outbox.counts().acked == 1, "delivered in the end")
    assert uplink.trouble == ""
    uplink.close(0.0)
    outbox.close()


def test_the_learner_with_another_key_than_the_robot_was_given_gets_nothing(
    site: DeliverySite, gateway: Gateway, tmp_path: Path
):
    site.enrol("arm")
    other = DeliverySite(tmp_path / "other")
    outbox = site.outbox("arm")
    outbox.put(encode_episode(make_episode("arm")))
    (site.folder / "keys" / "learner.key").unlink()
    (site.folder / "keys" / "learner.key").write_bytes(
        b"curve-public " + other.make_keys("impostor").public
    )
    uplink = site.uplink("arm", outbox)
    uplink.start()
    wait_until(lambda: "public key" in uplink.trouble, "the robot says what may be wrong")
    uplink.close(0.0)
    assert outbox.counts().waiting == 1
    outbox.close()


def test_revoking_a_key_bites_on_a_connection_that_is_open(site: DeliverySite, peer: Peer):
    assert isinstance(peer.hello("arm"), Welcome)
    record = encode_episode(make_episode("arm"))
    assert isinstance(peer.submit(1, record), Ack)
    site.registry.revoke("arm")
    refusal = peer.submit(2, record)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "not-enrolled"
    assert "revoked" in refusal.reason


def test_without_its_registry_the_gateway_refuses_in_words_and_goes_on(
    site: DeliverySite, peer: Peer, caplog: pytest.LogCaptureFixture
):
    registry, moved = site.folder / "registry", site.folder / "moved"
    peer.hello("arm")
    registry.rename(moved)
    try:
        refusal = peer.hello("arm")
        assert isinstance(refusal, Refusal)
        assert (refusal.code, "registry" in refusal.reason) == ("not-enrolled", True)
    finally:
        moved.rename(registry)
    assert not any(record.exc_info for record in caplog.records)
    assert isinstance(peer.hello("arm"), Welcome)


def test_an_answer_that_cannot_be_encoded_spoils_no_other(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def give_up(message: object) -> bytes:
        raise UnicodeEncodeError("utf-8", "\udce9", 0, 1, "a defect")

    assert isinstance(peer.hello("arm"), Welcome)
    peer.wait_s(0.0)
    with monkeypatch.context() as patched:
        patched.setattr("learner.ingestion.gateway.encode_message", give_up)
        with pytest.raises(zmq.Again):
            peer.hello("arm")
        wait_until(lambda: "could not be handled" in caplog.text, "the answer is given up")
    peer.wait_s(PATIENCE_S)
    assert isinstance(peer.hello("arm"), Welcome)


def test_a_robot_that_is_not_heard_while_the_disk_is_slow_still_has_its_window(
    peer: Peer, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.monitoring.fleet_state.LIVE_S", 0.0)
    monkeypatch.setattr("learner.ingestion.gateway.MAX_QUEUED_BYTES", 1)
    allowed: set[int] = set()
    monkeypatch.setattr(gateway._socket, "tend", allowed.add)
    welcome = peer.hello("arm")
    assert isinstance(welcome, Welcome)
    wait_until(lambda: 1 + welcome.window_bytes in allowed, "what it was granted is allowed")
    allowed.clear()
    wait_until(lambda: bool(allowed), "the gateway goes on")
    assert allowed == {1 + welcome.window_bytes}


def test_a_disk_that_takes_its_time_silences_nobody(
    site: DeliverySite, peer: Peer, gateway: Gateway
):
    peer.hello("arm")
    operator = Peer(site, site.enrol("desk", role="operator"))
    # Whoever writes next waits until this transaction ends.
    with gateway._store._file.environment.begin(write=True):
        peer.submit_only(1, encode_episode(make_episode("arm", seed=1)))
        peer.submit_only(2, encode_episode(make_episode("arm", seed=2)))
        status = operator.ask(encode_message(StatusRequest()))
        assert isinstance(status, StatusReply)
        assert status.episodes_stored == 0
    operator.close()
    acked: set[int] = set()
    while acked != {1, 2}:
        ack = peer.receive()
        assert isinstance(ack, Ack)
        acked.update(ack.sequences)


def test_a_revoked_robot_says_so_and_keeps_its_episodes(site: DeliverySite, gateway: Gateway):
    site.enrol("arm")
    outbox = site.outbox("arm")
    uplink = site.uplink("arm", outbox)
    uplink.start()
    wait_until(lambda: uplink.stats.is_welcome, "connected")
    site.registry.revoke("arm")
    outbox.put(encode_episode(make_episode("arm")))
    uplink.notify()
    wait_until(lambda: "revoked" in uplink.trouble, "the robot says that it was revoked")
    uplink.close(0.0)
    assert outbox.counts().waiting == 1
    outbox.close()


def test_an_episode_of_another_robot_is_refused_for_good(peer: Peer, gateway: Gateway):
    peer.hello("arm")
    refusal = peer.submit(1, encode_episode(make_episode("somebody-else")))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.sequence) == ("robot-name", 1)
    assert gateway.status().episodes_stored == 0
    assert gateway.refusals()["robot-name"] == 1


def test_a_robot_may_not_claim_the_name_of_another(site: DeliverySite, peer: Peer):
    site.enrol("brother")
    refusal = peer.hello("brother")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "name"
    assert "enrolled as arm" in refusal.reason


def test_another_wire_version_is_refused_in_words(peer: Peer):
    refusal = peer.hello("arm", wire_version=WIRE_VERSION + 1)
    assert isinstance(refusal, Refusal)
    assert "update the learner" in refusal.reason


def test_who_did_not_say_hello_is_asked_to(peer: Peer):
    refusal = peer.submit(1, encode_episode(make_episode("arm")))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.sequence) == ("say-hello", None)


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1"],
        [b"\x81\xa4type\xa7unknown"],
        [encode_message(StatusRequest()), b"a body that has no place here"],
        [b"\xff" * 70_000],
        [encode_message(make_heartbeat()).replace(b"random", b"\xff\xfe\xfd\xfc\xfb\xfa")],
    ],
)
def test_a_malformed_message_is_refused_and_the_gateway_goes_on(peer: Peer, frames: list[bytes]):
    peer.hello("arm")
    refusal = peer.ask(*frames)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "malformed"
    assert isinstance(peer.submit(1, encode_episode(make_episode("arm"))), Ack)


def test_a_message_of_many_frames_is_refused_and_takes_no_memory(peer: Peer):
    peer.hello("arm")
    tracemalloc.start()
    try:
        refusal = peer.ask(encode_message(make_heartbeat()), *[b"x"] * 50_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason) == ("malformed", "Heartbeat with several bodies")
    assert peak_bytes < 5 * 2**20
    assert isinstance(peer.submit(1, encode_episode(make_episode("arm"))), Ack)


def test_a_record_that_was_altered_on_its_way_is_refused(peer: Peer):
    peer.hello("arm")
    record = encode_episode(make_episode("arm"))
    refusal = peer.submit(1, record[:-3] + b"\0\0\0", claimed=digest(record))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.sequence) == ("digest", 1)


def test_the_same_sequence_twice_is_acked_twice_and_stored_once(peer: Peer, gateway: Gateway):
    peer.hello("arm")
    record = encode_episode(make_episode("arm"))
    assert isinstance(peer.submit(1, record), Ack)
    assert isinstance(peer.submit(1, record), Ack)
    (robot,) = gateway.status().robots
    assert (robot.stored, robot.duplicates, robot.conflicts) == (1, 1, 0)


def test_a_copied_disk_makes_no_episode_vanish_and_raises_an_alarm(
    peer: Peer, gateway: Gateway, caplog: pytest.LogCaptureFixture
):
    peer.hello("arm")
    assert isinstance(peer.submit(1, encode_episode(make_episode("arm", seed=1))), Ack)
    assert isinstance(peer.submit(1, encode_episode(make_episode("arm", seed=2))), Ack)
    (robot,) = gateway.status().robots
    assert (robot.stored, robot.conflicts) == (1, 1)
    assert "two different episodes under the key arm/" in caplog.text


def test_a_tombstone_accounts_for_what_never_comes(peer: Peer, gateway: Gateway):
    peer.hello("arm")
    tombstone = Tombstone(spool_id=SPOOL, sequence=1, last_sequence=3, reason="disk was full")
    ack = peer.ask(encode_message(tombstone))
    assert isinstance(ack, Ack)
    assert ack.sequences == [1, 2, 3]
    assert isinstance(peer.submit(5, encode_episode(make_episode("arm"))), Ack)
    (robot,) = gateway.status().robots
    assert (robot.stored, robot.tombstoned, robot.missing) == (1, 3, 1)


def test_a_tombstone_over_everything_is_refused(peer: Peer):
    peer.hello("arm")
    tombstone = Tombstone(spool_id=SPOOL, sequence=1, last_sequence=2**50, reason="")
    assert isinstance(peer.ask(encode_message(tombstone)), Refusal)


@pytest.mark.usefixtures("long_sessions")
def test_only_an_operator_learns_the_state_of_the_fleet(
    site: DeliverySite, gateway: Gateway, peer: Peer
):
    peer.hello("arm")
    peer.submit(1, encode_episode(make_episode("arm", success=False)))
    refusal = peer.ask(encode_message(StatusRequest()))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "not-an-operator"
    operator = Peer(site, site.enrol("desk", role="operator"))
    status = operator.ask(encode_message(StatusRequest()))
    operator.close()
    assert isinstance(status, StatusReply)
    (robot,) = status.robots
    assert (robot.robot_id, robot.attempts, robot.successes, robot.recent) == ("arm", 1, 0, "f")
    assert robot.connected


def test_a_port_in_use_is_said_in_words(site: DeliverySite, gateway: Gateway, tmp_path: Path):
    second = site.gateway(store=tmp_path / "second")
    with pytest.raises(ConfigurationError, match="port is in use"):
        second.start()


def test_a_gateway_without_a_registry_does_not_start(site: DeliverySite):
    (site.folder / "registry").rmdir()
    gateway = site.gateway()
    with pytest.raises(ConfigurationError, match="fleet enrol"):
        gateway.start()


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
