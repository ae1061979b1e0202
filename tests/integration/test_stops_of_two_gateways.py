"""An order to stop that not every gateway was given."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from learner.ingestion import neighbours
from learner.ingestion.gateway import Gateway
from protocol.messages import Stop, Welcome
from tests.delivery_site import DeliverySite, make_site
from tests.integration.pair_of_gateways import Pair
from tests.integration.test_fleet_stop import agent, given, order_to, resume, status_of
from tests.waiting import PATIENCE_S, wait_until


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


def test_a_robot_is_not_welcome_before_the_orders_that_other_gateways_have_are_known(
    site: DeliverySite, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(neighbours, "HEARD_WITHIN_S", math.inf)  # however slow this machine is
    pair = Pair(site)
    first, second = pair.seats
    try:
        first.start()
        given(order_to(site, "arm", *pair.endpoints), 1.0)
        second.start(others=[first.endpoint])
        with closing(pair.peer("arm", 1)) as robot:
            robot.wait_s(0.5)
            with pytest.raises(zmq.Again):
                robot.hello("arm")
            robot.wait_s(PATIENCE_S)
            pair.exchange()
            assert isinstance(robot.receive(), Stop)
            assert isinstance(robot.receive(), Welcome)
    finally:
        first.stop()
        second.stop()


def test_a_robot_is_welcome_where_nothing_is_heard_of_the_other_gateways(site: DeliverySite):
    pair = Pair(site)
    seat = pair.seats[1]
    try:
        seat.start(others=["tcp://10.0.0.1:5701"])
        with agent(site, "arm", [seat.endpoint]) as emergency:
            assert emergency.pulled is None
    finally:
        seat.stop()


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
