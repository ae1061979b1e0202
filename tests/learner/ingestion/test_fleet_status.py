"""One status of the fleet from what several gateways know."""

from __future__ import annotations

import random

from learner.ingestion.fleet_status import fleet_status, missing_together
from learner.ingestion.gateway_report import GatewayReport, HeardReport
from learner.store.holdings import SpoolHoldings
from learner.store.sequence_set import SequenceSet
from protocol.messages import LearnerCondition
from tests.learner.ingestion.test_neighbours import SPOOL, A, B, report, robot


def having(*runs: range, gone: tuple[range, ...] = ()) -> dict[str, dict[bytes, SpoolHoldings]]:
    held = SpoolHoldings(stored=SequenceSet(runs), tombstoned=SequenceSet(gone))
    return {"arm": {SPOOL: held}}


def moved(age_s: float = 0.0):
    """Return the status of a robot that was at A until 10, and is at B since; 9 and 10 twice."""
    before = report(
        A,
        [robot("arm", last_seen_s=60.0, stored=10, attempts=10, successes=4, recent="s" * 150)],
        holdings=having(range(1, 11)),
        episodes_stored=10,
        release_latency_ms=[5.0, 7.0],
        release_version=3,
    )
    now = report(
        B,
        [robot("arm", stored=6, missing=8, attempts=6, successes=1, recent="f" * 100)],
        holdings=having(range(9, 15)),
        episodes_stored=6,
        release_latency_ms=[9.0],
        release_version=4,
    )
    return fleet_status(now, [HeardReport(report=before, age_s=age_s)])


def test_a_gateway_alone_says_what_it_knows():
    own = report(A, [robot("arm", stored=3)])
    assert fleet_status(own, []) == own.status


def test_a_robot_that_moved_has_every_episode_once_and_misses_none():
    status = moved()
    (arm,) = status.robots
    assert (arm.stored, arm.missing, arm.tombstoned) == (14, 0, 0)
    assert status.episodes_stored == 14
    assert (arm.attempts, arm.successes) == (16, 5)
    assert arm.recent == "s" * 100 + "f" * 100
    assert (arm.gateway, arm.connected, arm.last_seen_s) == (B, True, 0.5)


def test_a_release_took_as_long_as_to_the_last_robot_of_any_gateway():
    status = moved()
    assert status.release_latency_ms == [5.0, 9.0]
    assert status.release_version == 4


def test_a_gateway_that_is_gone_is_named_and_what_it_said_last_counts():
    status = moved(age_s=30.0)
    assert status.robots[0].stored == 14
    (warning,) = status.warnings
    assert A in warning
    assert "30 s" in warning


def test_how_each_gateway_is_stands_under_its_name_while_it_is_there():
    full = LearnerCondition(
        store_bytes=99,
        store_limit_bytes=100,
        disk_free_bytes=1,
        disk_size_bytes=100,
        queued_bytes=0,
        queue_limit_bytes=100,
        keys_refused=0,
    )
    own, other = report(A, [], conditions=[full]), report(B, [], conditions=[full])
    told = fleet_status(own, [HeardReport(report=other, age_s=1.0)])
    assert [one.gateway for one in told.conditions] == [A, B]
    told = fleet_status(own, [HeardReport(report=other, age_s=60.0)])
    assert [one.gateway for one in told.conditions] == [A]


def test_what_one_store_gave_up_and_another_has_is_there():
    one = report(
        A,
        [robot("arm", stored=1, tombstoned=2)],
        holdings=having(range(1, 2), gone=(range(2, 4),)),
    )
    other = report(
        B, [robot("arm", stored=2, missing=2)], holdings=having(range(3, 4), range(5, 6))
    )
    (arm,) = fleet_status(one, [HeardReport(report=other, age_s=0.0)]).robots
    assert (arm.stored, arm.tombstoned, arm.missing) == (3, 1, 1)


def test_while_a_store_is_looked_through_nothing_is_called_missing():
    one = report(A, [robot("arm", stored=5)], holdings=having(range(1, 6)))
    other = report(B, [robot("arm", stored=5, missing=5)])
    (arm,) = fleet_status(one, [HeardReport(report=other, age_s=0.0)]).robots
    assert (arm.stored, arm.missing) == (10, 0)


def test_a_robot_of_one_gateway_counts_as_there():
    one = report(A, [robot("arm", stored=5, missing=2), robot("new", last_seen_s=-1.0)])
    other = report(B, [robot("arm", last_seen_s=-1.0), robot("new", last_seen_s=-1.0)])
    arm, new = fleet_status(one, [HeardReport(report=other, age_s=0.0)]).robots
    assert (arm.stored, arm.missing, arm.gateway) == (5, 2, A)
    assert (new.last_seen_s, new.connected, new.gateway) == (-1.0, False, "")


def test_what_several_stores_miss_together_is_counted_without_a_status():
    first = report(
        A,
        [robot("arm", stored=8), robot("stays", stored=5, missing=2)],
        holdings=having(range(1, 9)),
    )
    second = report(
        B, [robot("arm", stored=4, missing=10), robot("stays")], holdings=having(range(11, 15))
    )
    # 9 and 10 are in neither; of who has delivered to one alone, its ledger says it.
    assert missing_together([first, second]) == {"arm": 2}
    (arm, stays) = fleet_status(first, [HeardReport(report=second, age_s=0.0)]).robots
    assert (arm.missing, stays.missing) == (2, 2)


def test_of_a_store_that_is_still_looked_through_nothing_is_missing_together():
    first = report(A, [robot("arm", stored=8)], holdings=having(range(1, 9)))
    second = report(B, [robot("arm", stored=4, missing=10)])
    assert missing_together([first, second]) == {"arm": 0}


def test_nothing_is_called_missing_while_a_gateway_was_never_heard():
    own = report(B, [robot("arm", stored=10, missing=1000)], holdings=having(range(1001, 1011)))
    unheard = GatewayReport.unheard(A)
    status = fleet_status(own, [HeardReport(report=unheard, age_s=60.0)])
    assert status.robots[0].missing == 0
    (warning,) = status.warnings
    assert "what is missing is not counted" in warning
    assert missing_together([own, unheard]) == {"arm": 0}


def test_what_is_missing_together_is_what_the_status_says_for_any_two_stores():
    rng = random.Random(1)
    for _ in range(300):
        first, second = (drawn_report(name, rng) for name in (A, B))
        (arm,) = fleet_status(first, [HeardReport(report=second, age_s=0.0)]).robots
        together = missing_together([first, second])
        assert together.get("arm", arm.missing) == arm.missing


def drawn_report(name: str, rng: random.Random) -> GatewayReport:
    """Return what a gateway says that has some of twenty sequences and was told of others."""
    stored, gone = (
        [range(number, number + 1) for number in range(1, 21) if rng.random() < 0.3]
        for _ in range(2)
    )
    gone = [run for run in gone if run not in stored]
    held = having(*stored, gone=tuple(gone))
    missing = held["arm"][SPOOL].missing
    arm = robot("arm", stored=len(stored), tombstoned=len(gone), missing=missing)
    return report(name, [arm], holdings=held)
