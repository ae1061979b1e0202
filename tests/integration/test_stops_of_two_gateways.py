"""An order to stop that not every gateway was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.ingestion.gateway import Gateway
from tests.delivery_site import DeliverySite, make_site
from tests.integration.pair_of_gateways import Pair
from tests.integration.test_fleet_stop import agent, given, order_to, resume, status_of
from tests.waiting import wait_until


@pytest.fixture
def site(tmp_path: Path) -> DeliverySite:
    site = make_site(tmp_path)
    site.enrol("operator", role="operator")
    site.enrol("arm")
    return site


def is_open(gateway: Gateway) -> bool:
    return status_of(gateway, "arm").stop is not None


def test_a_gateway_that_was_down_hears_of_an_order_and_of_its_end(site: DeliverySite):
    pair = Pair(site)
    first, second = pair.seats
    try:
        first.start()
        order = order_to(site, "arm", *pair.endpoints)
        assert list(given(order, 1.0).untold_gateways) == [second.endpoint]
        pair.exchange()
        first.stop()  # before the other one is back
        back = second.start()
        pair.exchange()
        assert is_open(back)
        with agent(site, "arm", [second.endpoint]) as emergency:
            wait_until(lambda: emergency.pulled is not None, "it stops")
        resume(site, "arm")
        with agent(site, "arm", [second.endpoint]) as emergency:
            wait_until(lambda: not is_open(back), "it says that it was resumed")
            assert is_open(stale := first.start())
            for _ in range(2):
                pair.exchange()
                assert not is_open(stale)
                assert not is_open(back)
            assert emergency.pulled is None
    finally:
        first.stop()
        second.stop()


def test_a_connected_robot_stops_by_an_order_that_only_another_gateway_was_given(
    site: DeliverySite,
):
    pair = Pair(site)
    first, second = pair.seats
    try:
        gateways = [seat.start() for seat in pair.seats]
        with agent(site, "arm", [second.endpoint]) as emergency:
            given(order_to(site, "arm", first.endpoint))
            assert emergency.pulled is None
            pair.exchange()
            wait_until(lambda: emergency.pulled is not None, "it stops with its next heartbeat")
            wait_until(lambda: bool(status_of(gateways[1], "arm").stop.confirmed_at_ns), "it says")
        pair.exchange()
        assert status_of(gateways[0], "arm").stop.confirmed_at_ns > 0
    finally:
        first.stop()
        second.stop()
