"""How two gateways share robots: by whom they take in, send on, and let go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.verification import verify
from protocol.codec import encode_episode
from protocol.messages import Redirect, Refusal, Welcome
from tests.episodes import make_episode
from tests.integration.pair_of_gateways import Pair, pair_of_gateways, stored
from tests.waiting import wait_until


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with pair_of_gateways(tmp_path) as pair:
        yield pair


def test_new_robots_are_spread_over_the_gateways(pair: Pair):
    names = [f"arm-{number}" for number in range(6)]
    for name in names:
        pair.site.enrol(name)
    robots = [pair.robot(name) for name in names]
    for robot in robots:
        robot.deliver(1)
    for robot in robots:
        robot.close()
    assert [stored(seat) for seat in pair.seats] == [3, 3]


def test_some_robots_of_a_crowded_gateway_move_and_nothing_is_lost_or_doubled(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("learner.ingestion.balance.PATIENCE_S", 1.0)
    monkeypatch.setattr("learner.ingestion.balance.BETWEEN_S", 0.5)
    # A copy that was its store's newest record when it was found is looked at again at once.
    monkeypatch.setattr("learner.ingestion.reconciliation.AGAIN_S", 0.0)
    first, second = pair.seats
    second.stop()
    names = [f"arm-{number}" for number in range(6)]
    for name in names:
        pair.site.enrol(name)
    robots = [pair.robot(name) for name in names]
    for robot in robots:
        robot.deliver(5)
    second.start()

    def moved() -> int:
        for robot in robots:
            robot.deliver(1)
        pair.exchange()
        assert second.gateway is not None
        return len(second.gateway.report().sessions)

    wait_until(lambda: moved() >= 2, "two robots have moved")
    for robot in robots:
        robot.deliver(5)
    written = sum(robot.written for robot in robots)
    for robot in robots:
        robot.close()
    for _ in range(2):
        pair.exchange()
    for seat in pair.seats:
        seat.stop()
    found = verify([first.store, second.store], None)
    assert found.sound, found.findings()
    assert sum(one.stored for one in found.robots.values()) == written


def test_who_was_sent_on_is_taken_in_and_so_is_who_knows_no_redirects(pair: Pair):
    for name in ("first", "new", "old"):
        pair.site.enrol(name)
    robot = pair.robot("first")
    robot.deliver(1)
    pair.exchange()
    new, old = pair.peer("new", 0), pair.peer("old", 0)
    answer = new.hello("new")
    assert answer == Redirect(endpoint=pair.endpoints[1], gateways=pair.endpoints)
    taken_in = new.hello("new", sent_on=True)
    assert isinstance(taken_in, Welcome)
    assert taken_in.gateways == pair.endpoints
    served = old.hello("old", wire_version=3)
    assert isinstance(served, Welcome)
    assert served.gateways == []
    for one in (robot, new, old):
        one.close()


def test_a_robot_that_lost_its_list_is_sent_to_the_store_that_knows_it(pair: Pair):
    for name in ("arm", "other", "another"):
        pair.site.enrol(name)
    busy = [pair.robot(name, at=(1,)) for name in ("other", "another")]
    peer = pair.peer("arm", 1)
    peer.hello("arm", sent_on=True)
    peer.submit(1, encode_episode(make_episode("arm")))
    peer.close()
    pair.exchange()
    again = pair.peer("arm", 0)
    answer = again.hello("arm")
    assert isinstance(answer, Redirect)
    assert answer.endpoint == pair.endpoints[1]
    again.close()
    for robot in busy:
        robot.close()


def test_a_second_agent_with_the_same_key_is_refused_at_the_other_gateway_too(pair: Pair):
    pair.site.enrol("arm")
    one = pair.peer("arm", 0)
    assert isinstance(one.hello("arm", process_id=b"1" * 16), Welcome)
    pair.exchange()
    other = pair.peer("arm", 1)
    refusal = other.hello("arm", process_id=b"2" * 16)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "two-agents"
    assert pair.endpoints[0] in refusal.reason
    # The same agent may move.
    assert isinstance(other.hello("arm", process_id=b"1" * 16, sent_on=True), Welcome)
    one.close()
    other.close()
