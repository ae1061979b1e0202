"""One status of the whole fleet, from what each of its gateways knows.

A robot that moved has episodes in two stores, and some of them perhaps in both: each counts once as
stored. Its attempt counts in both, as do its success and its letter in ``recent``, until one of the
two copies went: a store's ledger does not say which attempt is whose.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain, zip_longest

import msgspec

from learner.ingestion.gateway_report import GatewayReport, HeardReport
from learner.ingestion.neighbours import GONE_AFTER_S
from learner.monitoring.fleet_state import LIVE_S
from learner.store.holdings import SpoolHoldings
from learner.store.ledger import RECENT_ATTEMPTS
from learner.store.sequence_set import SequenceSet
from protocol.messages import LearnerCondition, RobotStatus, StatusReply


def fleet_status(own: GatewayReport, others: Sequence[HeardReport]) -> StatusReply:
    """Return the fleet as all of its gateways know it; what one that is gone said last counts."""
    if not others:
        return own.status
    everyone = [HeardReport(report=own, age_s=0.0), *others]
    reports = [one.report for one in everyone]
    statuses = [report.status for report in reports]
    views = _views(everyone)
    spools = {name: _spools(name, reports) for name in views}
    return StatusReply(
        uptime_s=max(status.uptime_s for status in statuses),
        release_version=max(status.release_version for status in statuses),
        releases_published=max(status.releases_published for status in statuses),
        release_latency_ms=_slowest([status.release_latency_ms for status in statuses]),
        episodes_stored=sum(status.episodes_stored for status in statuses)
        - sum(_doubled(holdings) for robot in spools.values() for holdings in robot.values()),
        robots=[
            _robot(views[name], spools[name], is_whole=_is_whole(reports)) for name in sorted(views)
        ],
        warnings=list(_warnings(everyone)),
        conditions=list(_conditions(everyone)),
    )


def missing_together(reports: Sequence[GatewayReport]) -> dict[str, int]:
    """Return how many sequences no store has, of each robot that has delivered to several.

    That is none of any robot while one of the stores is unknown. Costs little where robots seldom
    move: no status of the fleet is built for it.
    """
    seen: defaultdict[str, list[RobotStatus]] = defaultdict(list)
    for report in reports:
        for robot in report.status.robots:
            if robot.stored or robot.tombstoned:
                seen[robot.robot_id].append(robot)
    if not _is_whole(reports):
        return dict.fromkeys(seen, 0)
    return {
        name: _missing(views, _spools(name, reports))
        for name, views in seen.items()
        if len(views) > 1
    }


def _is_whole(reports: Sequence[GatewayReport]) -> bool:
    """Say whether every store is known: of any other one, all that it has would seem missing."""
    return not any(report.is_unheard for report in reports)


def _views(everyone: Sequence[HeardReport]) -> dict[str, list[RobotStatus]]:
    """Return what each gateway says of each robot, as if it said it now.

    By robot; what the gateway that heard it last says is the last.
    """
    found: defaultdict[str, list[RobotStatus]] = defaultdict(list)
    for one in everyone:
        for robot in one.report.status.robots:
            silent_s = robot.last_seen_s + one.age_s if robot.last_seen_s >= 0 else -1.0
            view = msgspec.structs.replace(
                robot,
                last_seen_s=silent_s,
                connected=0 <= silent_s <= LIVE_S,
                gateway=one.report.endpoint if silent_s >= 0 else "",
            )
            found[robot.robot_id].append(view)
    for views in found.values():
        views.sort(key=lambda view: -view.last_seen_s if view.last_seen_s >= 0 else -math.inf)
    return found


def _spools(robot: str, reports: Sequence[GatewayReport]) -> dict[bytes, list[SpoolHoldings]]:
    """Return by spool what each store has of a robot."""
    found: defaultdict[bytes, list[SpoolHoldings]] = defaultdict(list)
    for report in reports:
        for spool_id, holdings in report.holdings.get(robot, {}).items():
            found[spool_id].append(holdings)
    return dict(found)


def _robot(
    seen: Sequence[RobotStatus], spools: dict[bytes, list[SpoolHoldings]], *, is_whole: bool
) -> RobotStatus:
    """Return one robot: what it is now from whoever heard it last, what it did from all of them.

    An attempt that two stores have is two of ``attempts``: see above.
    """
    stored, tombstoned, missing = _counts(seen, spools)
    return msgspec.structs.replace(
        seen[-1],
        attempts=sum(view.attempts for view in seen),
        successes=sum(view.successes for view in seen),
        recent="".join(view.recent for view in seen)[-RECENT_ATTEMPTS:],
        stored=stored,
        missing=missing if is_whole else 0,
        tombstoned=tombstoned,
        duplicates=sum(view.duplicates for view in seen),
        conflicts=sum(view.conflicts for view in seen),
        refused=sum(view.refused for view in seen),
    )


def _counts(
    seen: Sequence[RobotStatus], spools: dict[bytes, list[SpoolHoldings]]
) -> tuple[int, int, int]:
    """Return how many of a robot's sequences are stored, tombstoned and missing."""
    delivered = [view for view in seen if view.stored or view.tombstoned]
    if len(delivered) <= 1:
        only = delivered[0] if delivered else seen[-1]
        return only.stored, only.tombstoned, only.missing
    stored = sum(view.stored for view in seen)
    together = [reduce(SpoolHoldings.together, holdings) for holdings in spools.values()]
    if not _are_complete(spools, stored):
        return stored, sum(view.tombstoned for view in seen), 0
    return (
        sum(spool.stored.count for spool in together),
        sum(spool.tombstoned.count for spool in together),
        sum(spool.missing for spool in together),
    )


def _missing(delivered: Sequence[RobotStatus], spools: dict[bytes, list[SpoolHoldings]]) -> int:
    """Return how many of a robot's sequences no store has, like _counts in a third of its time."""
    if not _are_complete(spools, sum(view.stored for view in delivered)):
        return 0
    missing = 0
    for holdings in spools.values():
        kinds = [kind for one in holdings for kind in (one.stored, one.tombstoned)]
        known = SequenceSet(chain.from_iterable(kind.runs() for kind in kinds))
        missing += known.highest - known.count
    return missing


def _are_complete(spools: dict[bytes, list[SpoolHoldings]], stored: int) -> bool:
    """Say whether every gateway has looked through its store, by what they say they have stored."""
    return sum(one.stored.count for held in spools.values() for one in held) >= stored


def _doubled(holdings: Sequence[SpoolHoldings]) -> int:
    """Return how many records of a spool are there once more than needed."""
    together = reduce(SpoolHoldings.together, holdings)
    return sum(one.stored.count for one in holdings) - together.stored.count


def _slowest(latencies_ms: Sequence[list[float]]) -> list[float]:
    """Return how long each release took to the last robot of any gateway, the newest last.

    A gateway without robots has measured nothing; the others' newest releases are the same ones.
    """
    columns = zip_longest(*(reversed(one) for one in latencies_ms), fillvalue=0.0)
    return [max(column) for column in columns][::-1]


def _conditions(everyone: Sequence[HeardReport]) -> Iterator[LearnerCondition]:
    """Yield how each gateway is, by name; of one that is gone only that is known."""
    for one in everyone:
        if one.age_s <= GONE_AFTER_S:
            for condition in one.report.status.conditions:
                yield msgspec.structs.replace(condition, gateway=one.report.endpoint)


def _warnings(everyone: Sequence[HeardReport]) -> Iterator[str]:
    for one in everyone:
        endpoint = one.report.endpoint
        if one.age_s > GONE_AFTER_S:
            consequence = (
                "until it is back, what is missing is not counted"
                if one.report.is_unheard
                else "until it is back, what it stored last may count as missing"
            )
            yield (
                f"gateway {endpoint} has not been heard of for {one.age_s:.0f} s: robots go to "
                f"another one; {consequence}"
            )
        yield from (f"gateway {endpoint}: {text}" for text in one.report.status.warnings)
