"""Agents and learners of different wire versions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from learner.ingestion.gateway import Gateway
from protocol.codec import encode_episode, encode_message
from protocol.key_notice import notice_beside, sign_key_notice, write_key_notice
from protocol.messages import WIRE_VERSION, Ack, KeyNotice, Refusal, Welcome
from protocol.sockets import bind
from tests.delivery_site import DeliverySite, make_heartbeat
from tests.episodes import make_episode
from tests.peer import Peer
from tests.waiting import wait_until


@pytest.fixture
def gateway(site: DeliverySite) -> Iterator[Gateway]:
    notice = sign_key_notice(zmq.curve_keypair()[0], site.release_secret())
    write_key_notice(notice_beside(site.folder / "keys" / "learner.secret"), notice)
    with site.running_gateway() as gateway:
        yield gateway


def test_an_agent_one_version_older_is_served_and_told_nothing_it_does_not_know(
    site: DeliverySite, gateway: Gateway
):
    old = Peer(site, site.enrol("old"))
    welcome = old.hello("old", wire_version=1)
    assert isinstance(welcome, Welcome)
    assert welcome.wire_version == 1
    old.send(encode_message(make_heartbeat()))
    # Had there been a notice of the learner's next key, it would have come before the ack.
    assert isinstance(old.submit(1, encode_episode(make_episode("old"))), Ack)
    (robot,) = gateway.status().robots
    assert (robot.wire_version, robot.software_version) == (1, "test")
    old.close()


def test_an_agent_of_this_version_is_told_of_the_next_key(site: DeliverySite, gateway: Gateway):
    peer = Peer(site, site.enrol("arm"))
    welcome = peer.hello("arm", wire_version=WIRE_VERSION, process_id=b"p" * 16)
    assert isinstance(welcome, Welcome)
    assert welcome.wire_version == WIRE_VERSION
    notice = peer.ask(encode_message(make_heartbeat()))
    assert isinstance(notice, KeyNotice)
    peer.send(encode_message(make_heartbeat(next_server_key=notice.next_public_key)))
    assert isinstance(peer.submit(1, encode_episode(make_episode("arm"))), Ack)
    peer.close()


def test_an_agent_from_the_future_is_refused_by_name_and_shown_to_the_operator(
    site: DeliverySite, gateway: Gateway, caplog: pytest.LogCaptureFixture
):
    peer = Peer(site, site.enrol("arm"))
    refusal = peer.hello("arm", wire_version=WIRE_VERSION + 1)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "wire-version"
    assert f"arm speaks wire version {WIRE_VERSION + 1}" in caplog.text
    (robot,) = gateway.status().robots
    assert any("update the learner" in warning for warning in robot.warnings)
    peer.close()


@pytest.mark.parametrize("code", ["malformed", "wire-version"])
def test_an_agent_says_that_the_learner_is_the_older_one(site: DeliverySite, code: str):
    # Not a gateway, only its answers. Without a ZAP domain every key is let in.
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.CURVE_SERVER, 1)
    router.setsockopt(zmq.CURVE_SECRETKEY, site.keys_of("learner").secret)
    router.setsockopt(zmq.RCVTIMEO, 10_000)
    bind(router, site.endpoint)
    site.enrol("arm")
    outbox = site.outbox("arm")
    uplink = site.uplink("arm", outbox)
    uplink.start()
    routing_id, _hello = router.recv_multipart()
    refusal = Refusal(code=code, reason="unknown field `process_id`")
    router.send_multipart([routing_id, encode_message(refusal)])
    wait_until(lambda: "update it before its robots" in uplink.trouble, "the robot says so")
    uplink.close(0.0)
    outbox.close()
    router.close(linger=0)
    context.term()
