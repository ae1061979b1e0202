"""Everything that a network does to a robot: afterwards nothing is missing, nothing doubled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random

import pytest

from learner.ingestion.gateway import Gateway
from protocol.codec import encode_episode
from robot_agent.delivery.outbox import Outbox
from robot_agent.delivery.outbox_file import FILE_NAME
from robot_agent.delivery.uplink import Uplink
from tests.chaos.independent_reader import compare, read_store
from tests.delivery_site import DeliverySite
from tests.episodes import make_episode
from tests.faulty_link import FaultyLink
from tests.waiting import wait_until

NOTICED_WITHIN_S = 90.0
"""A connection that died without a word is given up, and another one made, well within this."""


@pytest.fixture
def site(site: DeliverySite) -> DeliverySite:
    site.enrol("arm")
    return site


@pytest.fixture
def link(site: DeliverySite, gateway: Gateway) -> Iterator[FaultyLink]:
    """What robots of this test reach the gateway through."""
    with FaultyLink(int(gateway.endpoint.rsplit(":", 1)[1])) as link:
        (site.folder / "endpoint").write_text(link.endpoint)
        yield link


@pytest.fixture
def uplink(site: DeliverySite, outbox: Outbox, link: FaultyLink) -> Iterator[Uplink]:
    uplink = site.uplink("arm", outbox)
    uplink.start()
    yield uplink
    uplink.close(0.0)


def put(outbox: Outbox, count: int, *, side_px: int = 64) -> None:
    first = outbox.counts().written
    for seed in range(first, first + count):
        outbox.put(encode_episode(make_episode("arm", seed, side_px=side_px)))


def assert_all_stored_once(site: DeliverySite, outbox: Outbox, gateway: Gateway) -> None:
    """Let a reader that shares no code with the gateway count what it left."""
    gateway.stop()
    files = {"arm": site.outbox_folder("arm") / FILE_NAME}
    found = compare(read_store(site.store), files, {})
    assert found.expected == outbox.counts().written
    assert found.is_clean, found


def deliver(uplink: Uplink, outbox: Outbox, deadline_s: float = NOTICED_WITHIN_S) -> None:
    uplink.notify()
    wait_until(lambda: outbox.counts().waiting == 0, "all delivered", deadline_s)


def report_reconnection(what: str, since_s: float) -> None:
    print(f"{what}: delivering again after {time.monotonic() - since_s:.1f} s")


def test_a_connection_reset_at_any_byte_of_any_message_loses_and_doubles_nothing(
    site: DeliverySite, gateway: Gateway, link: FaultyLink, outbox: Outbox, uplink: Uplink
):
    random = Random(0)
    put(outbox, 5)
    for cut in range(12):
        before = link.accepted
        # Up to the middle of a handshake, of an episode, of an ack.
        link.reset_after(random.choice((random.randrange(1, 900), random.randrange(60_000))))
        put(outbox, 5)
        uplink.notify()
        wait_until(
            lambda before=before: link.accepted > before or outbox.counts().waiting == 0,
            f"reset {cut}",
        )
    link.reset_after(2**62)
    deliver(uplink, outbox)
    assert link.accepted > 6
    assert_all_stored_once(site, outbox, gateway)


def test_a_link_that_flaps_loses_and_doubles_nothing(
    site: DeliverySite, gateway: Gateway, link: FaultyLink, outbox: Outbox, uplink: Uplink
):
    flap(link, outbox, uplink, times=4, period_s=0.5)
    deliver(uplink, outbox)
    assert_all_stored_once(site, outbox, gateway)


@pytest.mark.chaos
def test_a_link_that_flaps_every_second_for_a_minute(
    site: DeliverySite, gateway: Gateway, link: FaultyLink, outbox: Outbox, uplink: Uplink
):
    flap(link, outbox, uplink, times=30, period_s=1.0)
    up_s = time.monotonic()
    deliver(uplink, outbox)
    report_reconnection("flapping every second for a minute", up_s)
    assert_all_stored_once(site, outbox, gateway)


def flap(link: FaultyLink, outbox: Outbox, uplink: Uplink, *, times: int, period_s: float) -> None:
    """Half of the time there is no link; meanwhile the robot works on."""
    for is_down in [True, False] * times:
        link.refuses = is_down
        if is_down:
            link.reset()
        put(outbox, 5)
        uplink.notify()
        time.sleep(period_s)


def test_a_link_with_delay_and_little_bandwidth_delivers(
    site: DeliverySite, gateway: Gateway, link: FaultyLink, outbox: Outbox, uplink: Uplink
):
    link.delay_s = 0.15
    link.bytes_per_s = 200_000
    put(outbox, 20)
    deliver(uplink, outbox)
    assert uplink.stats.reconnects == 0
    assert_all_stored_once(site, outbox, gateway)


def test_a_connection_that_died_without_a_word_is_given_up_and_made_anew(
    site: DeliverySite,
    gateway: Gateway,
    link: FaultyLink,
    outbox: Outbox,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("robot_agent.learner_connection.SILENCE_S", 3.0)
    uplink = site.uplink("arm", outbox)
    uplink.start()
    put(outbox, 5)
    deliver(uplink, outbox)
    link.is_swallowing = True
    put(outbox, 5)
    uplink.notify()
    before = link.accepted
    wait_until(lambda: link.accepted > before, "a new connection", NOTICED_WITHIN_S)
    link.is_swallowing = False
    # What is new goes through a hole that swallowed the first handshake as well.
    deliver(uplink, outbox)
    uplink.close(0.0)
    assert_all_stored_once(site, outbox, gateway)


@pytest.mark.chaos
@pytest.mark.parametrize("fault", ["swallowing", "stopped"])
def test_a_half_open_connection_is_noticed(
    site: DeliverySite,
    gateway: Gateway,
    link: FaultyLink,
    outbox: Outbox,
    uplink: Uplink,
    fault: str,
):
    put(outbox, 20)
    deliver(uplink, outbox)
    began_s = time.monotonic()
    before = link.accepted
    if fault == "swallowing":
        link.is_swallowing = True
    else:
        link.stop_reading(True)
    # More than the kernel takes for a peer that does not read.
    put(outbox, 100, side_px=256)
    uplink.notify()
    wait_until(lambda: link.accepted > before, "a new connection", NOTICED_WITHIN_S)
    report_reconnection(f"{fault}: noticed, and", began_s)
    link.is_swallowing = False
    link.stop_reading(False)
    mended_s = time.monotonic()
    deliver(uplink, outbox)
    report_reconnection(fault, mended_s)
    assert_all_stored_once(site, outbox, gateway)


@pytest.mark.chaos
def test_an_episode_that_takes_half_a_minute_on_a_slow_link_arrives(
    site: DeliverySite, gateway: Gateway, link: FaultyLink, outbox: Outbox, uplink: Uplink
):
    put(outbox, 1, side_px=256)
    record_bytes = outbox.counts().waiting_bytes
    link.bytes_per_s = record_bytes / 30
    deliver(uplink, outbox, 120.0)
    assert uplink.stats.reconnects == 0, "an alive connection was given up"
    assert_all_stored_once(site, outbox, gateway)
