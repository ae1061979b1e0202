"""Two agents that speak under one key: a copied disk, or a robot that was started twice."""

from __future__ import annotations

import signal

import pytest

from learner.ingestion.gateway import Gateway
from protocol.codec import encode_episode
from protocol.messages import Refusal, Welcome
from tests.delivery_site import DeliverySite
from tests.episodes import make_episode
from tests.peer import Peer
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.usefixtures("long_sessions")


@pytest.fixture
def site(site: DeliverySite) -> DeliverySite:
    site.enrol("arm")
    return site


def test_the_second_agent_is_refused_by_name_and_the_first_goes_on(
    site: DeliverySite, gateway: Gateway, caplog: pytest.LogCaptureFixture
):
    first_box, second_box = site.outbox("arm"), site.outbox("copy")
    first = site.uplink("arm", first_box)
    first.start()
    wait_until(lambda: first.stats.is_welcome, "the first is in")
    second = site.uplink("arm", second_box, keys=site.keys_of("arm"))
    second.start()
    wait_until(lambda: "same key" in second.trouble, "the second is told")
    assert "arm is connected already, from 127.0.0.1" in second.trouble
    assert "arm is refused (two-agents): arm is connected already" in caplog.text
    (robot,) = gateway.status().robots
    assert any("same key" in warning for warning in robot.warnings)
    assert gateway.refusals()["two-agents"] >= 1
    first_box.put(encode_episode(make_episode("arm")))
    first.notify()
    assert first.close(PATIENCE_S)
    assert first.stats.reconnects == 0
    # With the first one gone the second is what there is of the robot.
    wait_until(lambda: second.stats.is_welcome, "the second takes its place")
    second.close(0.0)
    first_box.close()
    second_box.close()


def test_an_agent_that_was_killed_gets_in_again(site: DeliverySite, gateway: Gateway):
    process = site.start("robot", "arm", "100000")
    wait_until(lambda: gateway.status().episodes_stored > 0, "it delivers")
    process.send_signal(signal.SIGKILL)
    process.wait()
    stored = gateway.status().episodes_stored
    process = site.start("robot", "arm", "100000")
    try:
        wait_until(lambda: gateway.status().episodes_stored > stored + 50, "it delivers again")
    finally:
        process.kill()
        process.wait()


def test_the_same_agent_may_connect_anew_at_any_time(site: DeliverySite, gateway: Gateway):
    peers = [Peer(site, site.keys_of("arm")) for _ in range(3)]
    for peer in peers:
        assert isinstance(peer.hello("arm", process_id=b"p" * 16), Welcome)
    for peer in peers:
        peer.close()


def test_agents_of_wire_version_1_are_told_apart_from_newer_ones_only(
    site: DeliverySite, gateway: Gateway
):
    first, second, newer = (Peer(site, site.keys_of("arm")) for _ in range(3))
    assert isinstance(first.hello("arm", wire_version=1), Welcome)
    assert isinstance(second.hello("arm", wire_version=1), Welcome)
    refusal = newer.hello("arm", process_id=b"n" * 16)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "two-agents"
    for peer in (first, second, newer):
        peer.close()
