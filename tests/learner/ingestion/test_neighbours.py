"""What a gateway makes of what it hears of the others."""

from __future__ import annotations

from learner.ingestion.gateway_report import GatewayReport, HeardReport, SessionReport
from learner.ingestion.neighbours import GONE_AFTER_S, Neighbours
from learner.store.holdings import SpoolHoldings
from protocol.messages import RobotStatus, StatusReply

SPOOL = b"s" * 16
A, B, C = (f"tcp://10.0.0.{number}:5701" for number in (1, 2, 3))


def robot(name: str, **changes: object) -> RobotStatus:
    fields: dict[str, object] = {
        "robot_id": name,
        "last_seen_s": 0.5,
        "connected": True,
        "release_version": 0,
        "attempts": 0,
        "successes": 0,
        "recent": "",
        "stored": 0,
        "missing": 0,
        "tombstoned": 0,
        "duplicates": 0,
        "conflicts": 0,
        "refused": 0,
        "outbox_episodes": 0,
        "decision_ms_p50": 0.0,
        "decision_ms_p99": 0.0,
        "warnings": [],
    }
    return RobotStatus(**(fields | changes))


def report(
    endpoint: str,
    robots: list[RobotStatus],
    *,
    holdings: dict[str, dict[bytes, SpoolHoldings]] | None = None,
    sessions: dict[str, SessionReport] | None = None,
    **changes: object,
) -> GatewayReport:
    fields: dict[str, object] = {
        "uptime_s": 1.0,
        "release_version": 0,
        "releases_published": 0,
        "release_latency_ms": [],
        "episodes_stored": 0,
    }
    return GatewayReport(
        endpoint=endpoint,
        store_id=endpoint.encode(),
        status=StatusReply(**(fields | changes), robots=robots),
        sessions=sessions or {},
        holdings=holdings or {},
        stops={},
    )


def heard(*reports: GatewayReport, age_s: float = 0.0) -> Neighbours:
    neighbours = Neighbours(clock=lambda: 100.0)
    neighbours.hear([HeardReport(report=one, age_s=age_s) for one in reports])
    return neighbours


def crowd(count: int) -> list[RobotStatus]:
    return [robot(f"arm-{number}") for number in range(count)]


def test_a_new_robot_goes_where_the_fewest_are():
    neighbours = heard(report(B, crowd(3)), report(C, crowd(1)))
    assert neighbours.better_place("new", SPOOL, own_robots=2) == C
    assert neighbours.better_place("newer", SPOOL, own_robots=2) is None


def test_robots_that_were_sent_since_count_already():
    neighbours = heard(report(B, crowd(0)))
    sent = [neighbours.better_place(f"new-{number}", SPOOL, own_robots=2) for number in range(4)]
    assert sent == [B, B, None, None]


def test_a_robot_goes_where_its_spool_is_however_many_are_there():
    known = {"arm": {SPOOL: SpoolHoldings()}}
    neighbours = heard(report(B, crowd(9), holdings=known), report(C, crowd(0)))
    assert neighbours.better_place("arm", SPOOL, own_robots=0) == B


def test_nobody_is_sent_to_a_gateway_that_is_gone_or_was_never_heard():
    known = {"arm": {SPOOL: SpoolHoldings()}}
    gone = heard(report(B, crowd(0), holdings=known), age_s=GONE_AFTER_S + 0.1)
    assert gone.better_place("arm", SPOOL, own_robots=5) is None
    assert gone.endpoints == [B]
    unheard = heard(GatewayReport.unheard("in place ingestion-2"), GatewayReport.unheard(C))
    assert unheard.better_place("arm", SPOOL, own_robots=5) is None
    assert unheard.endpoints == [C]


def test_another_agent_at_another_gateway_is_a_rival_while_it_is_heard():
    session = SessionReport(process_id=b"1", address="10.1.1.1", silent_s=1.0)
    there = report(B, [], sessions={"arm": session})
    assert heard(there).rival("arm", b"2") == f"10.1.1.1 to the gateway {B}"
    assert heard(there).rival("arm", b"1") is None
    assert heard(there).rival("other", b"2") is None
    assert heard(there, age_s=10.0).rival("arm", b"2") is None
