"""One episode in the stores of two gateways: counted once, and one copy goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.verification import verify
from learner.ingestion.gateway_report import HeardReport
from protocol.codec import encode_episode
from protocol.messages import Ack, Welcome
from tests.episodes import make_episode
from tests.integration.pair_of_gateways import Pair, pair_of_gateways


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with pair_of_gateways(tmp_path) as pair:
        yield pair


def deliver_twice(pair: Pair) -> None:
    """Have 1, 2 and 3 stored by the first gateway, 2, 3 and 4 by the second."""
    pair.site.enrol("arm")
    for place, sequences in enumerate([(1, 2, 3), (2, 3, 4)]):
        peer = pair.peer("arm", place)
        # As if the acks of 2 and 3 had been lost with the first gateway.
        assert isinstance(peer.hello("arm", process_id=b"1" * 16, sent_on=bool(place)), Welcome)
        for sequence in sequences:
            record = encode_episode(make_episode("arm", sequence, success=True))
            assert isinstance(peer.submit(sequence, record), Ack)
        peer.close()


def test_an_episode_that_two_stores_have_counts_once(pair: Pair):
    deliver_twice(pair)
    reports = [seat.report(0.0) for seat in pair.seats]
    for seat, other in zip(pair.seats, reversed(reports), strict=True):
        assert seat.gateway is not None
        assert other is not None
        seat.hear([HeardReport(report=other, age_s=0.0)])
        status = seat.gateway.status()
        (robot,) = status.robots
        assert (robot.stored, robot.missing, status.episodes_stored) == (4, 0, 4)


def test_of_two_copies_one_goes_when_both_gateways_are_there(pair: Pair):
    deliver_twice(pair)
    first, second = pair.seats
    pair.exchange()
    pair.exchange()
    for seat in pair.seats:
        assert seat.gateway is not None
        (robot,) = seat.gateway.status().robots
        assert (robot.stored, robot.missing, robot.attempts) == (4, 0, 4)
    first.stop()
    # Sent again it is known, also where it was removed.
    peer = pair.peer("arm", 1)
    peer.hello("arm", process_id=b"1" * 16)
    assert isinstance(peer.submit(2, encode_episode(make_episode("arm", 2, success=True))), Ack)
    peer.close()
    second.stop()
    found = verify([first.store, second.store], None)
    assert found.sound, found.findings()
    counts = found.robots["arm"]
    assert (counts.stored, counts.duplicated, counts.missing, counts.retired) == (4, 0, 0, 0)
    assert counts.refused_duplicates == 1
    assert sum("as copies that another store keeps" in line for line in found.findings()) == 1


def test_two_episodes_under_one_key_in_two_stores_are_both_kept_and_said(
    pair: Pair, caplog: pytest.LogCaptureFixture
):
    pair.site.enrol("arm")
    for place in range(2):
        peer = pair.peer("arm", place)
        peer.hello("arm", process_id=b"1" * 16, sent_on=bool(place))
        for sequence in (1, 2):
            peer.submit(sequence, encode_episode(make_episode("arm", 10 * place + sequence)))
        peer.close()
    pair.exchange()
    assert caplog.text.count("two different episodes under the key arm/") == 2
    for seat in pair.seats:
        seat.stop()
    found = verify([seat.store for seat in pair.seats], None)
    assert (found.robots["arm"].stored, found.robots["arm"].conflicts) == (4, 2)
    assert not found.sound
