"""What a gateway remembers of minutes and of a day, by a clock that the test turns."""

from __future__ import annotations

import pytest

from learner.monitoring.lately import QUEUED_WITHIN_S, REFUSED_WITHIN_S, Lately
from learner.monitoring.yesterday import NEWS_S, Yesterday
from protocol.messages import RobotStatus
from tests.learner.ingestion.test_neighbours import robot


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_in_the_queue_is_not_what_stays_there(clock: Clock):
    lately = Lately(clock)
    for queued_bytes in (90, 10, *[80] * 29):
        clock.now_s += 10.0
        lately.take(queued_bytes, {})
    assert lately.least_queued_bytes() == 10
    clock.now_s += 10.0
    lately.take(90, {})
    clock.now_s += 10.0
    assert lately.least_queued_bytes() == 80


def test_a_queue_that_was_not_looked_at_lately_is_as_it_was_last(clock: Clock):
    lately = Lately(clock)
    lately.take(70, {})
    clock.now_s += 2 * QUEUED_WITHIN_S
    assert lately.least_queued_bytes() == 70


def test_keys_that_were_refused_are_forgotten_after_ten_minutes(clock: Clock):
    lately = Lately(clock)
    refusals = {"connection": 4, "not-enrolled": 3, "digest": 50}
    assert lately.keys_refused(refusals) == 4
    for _ in range(round(REFUSED_WITHIN_S / 10) + 1):
        lately.take(0, refusals)
        clock.now_s += 10.0
    assert lately.keys_refused(refusals) == 0
    assert lately.keys_refused(refusals | {"not-enrolled": 5}) == 2


def hours(yesterday: Yesterday, clock: Clock, count: int, seen: RobotStatus) -> None:
    for _ in range(count):
        assert yesterday.is_due
        yesterday.take([seen])
        assert not yesterday.is_due
        clock.now_s += 3600.0


def known_before(yesterday: Yesterday, seen: RobotStatus) -> tuple[int, int]:
    found = yesterday.added_to(seen)
    return found.missing_yesterday, found.conflicts_yesterday


def test_what_is_lost_is_known_from_yesterday_a_day_later(clock: Clock):
    yesterday, lost = Yesterday(clock), robot("arm", missing=2, conflicts=1)
    hours(yesterday, clock, 23, lost)
    assert known_before(yesterday, lost) == (0, 0)
    hours(yesterday, clock, 1, lost)
    assert known_before(yesterday, lost) == (2, 1)


def test_a_fresh_loss_stays_news_for_a_day(clock: Clock):
    yesterday, old = Yesterday(clock), robot("arm", missing=2)
    hours(yesterday, clock, 40, old)
    fresh = robot("arm", missing=5)
    hours(yesterday, clock, round(NEWS_S / 3600) - 1, fresh)
    assert known_before(yesterday, fresh) == (2, 0)
    hours(yesterday, clock, 2, fresh)
    assert known_before(yesterday, fresh) == (5, 0)


def test_what_came_after_all_was_not_missing_yesterday(clock: Clock):
    yesterday = Yesterday(clock)
    hours(yesterday, clock, 30, robot("arm", missing=7))
    assert known_before(yesterday, robot("arm", missing=1)) == (1, 0)
    assert known_before(yesterday, robot("other", missing=1)) == (0, 0)
