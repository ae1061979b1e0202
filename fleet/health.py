"""Is the fleet well, who is not, and what is there to do."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fleet.beside_others import below_the_others
from fleet.concern import LEARNER, Concern, Severity, critical, note, warning
from fleet.learner_ailments import learner_ailments
from fleet.overview import Overview
from fleet.releases import assigned_version
from fleet.robot_ailments import ailments
from fleet.words import counted, duration
from protocol.messages import ReleaseEntry, ReleaseList, RobotStatus

SILENT_S = 180.0
BEHIND_S = 600.0
"""For so long a robot may still use what it had when a release came: an attempt takes a while."""
FLEET_SILENT_S = 120.0
LEAST_CONNECTED_SHARE = 0.5
FEWEST_CONNECTED = 4
"""Of fewer robots only all at once are the network's fault. As in the alerts of deploy/prometheus,
with the time that those wait; a test compares."""
_LATELY_S = 86_400.0


def concerns_of(overview: Overview, now_ns: int | None = None) -> list[Concern]:
    """Return all that somebody should look at, the most urgent first.

    Args:
        overview: of the fleet.
        now_ns: UTC; the time of this machine by default.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    found = list(_about_the_learner(overview))
    for robot in overview.status.robots:
        found += _told_by_what_is_stored(robot)
        if robot.robot_id in overview.members:
            found += _told_by_how_it_runs(robot, overview, now_ns)
    found += below_the_others(overview)
    order = list(Severity)
    return sorted(found, key=lambda concern: order.index(concern.severity))


def _about_the_learner(overview: Overview) -> Iterator[Concern]:
    yield from _disconnection(overview)
    yield from learner_ailments(overview.status)
    for words in overview.status.warnings:
        yield warning(LEARNER, words)
    if overview.listing is None:
        yield critical(
            LEARNER,
            "the release server does not answer: who is behind or pinned is not known",
            "the learner's log says why",
        )
    else:
        for words in overview.listing.warnings:
            yield warning(LEARNER, words)


def _disconnection(overview: Overview) -> Iterator[Concern]:
    members = (robot for robot in overview.status.robots if robot.robot_id in overview.members)
    silences_s = [robot.last_seen_s for robot in members if robot.last_seen_s >= 0]
    here = sum(silent_s <= FLEET_SILENT_S for silent_s in silences_s)
    lately = sum(silent_s <= _LATELY_S for silent_s in silences_s)
    remedy = "look at the network between them and the gateway's port"
    if silences_s and not here:
        yield critical(LEARNER, f"none of {counted(len(silences_s), 'robot')} is connected", remedy)
    elif lately >= FEWEST_CONNECTED and here < LEAST_CONNECTED_SHARE * lately:
        yield critical(
            LEARNER, f"{here} of {counted(lately, 'robot')} of the last day are connected", remedy
        )


def _told_by_what_is_stored(robot: RobotStatus) -> Iterator[Concern]:
    """Also of a robot that was shut out: its episodes are trained on."""
    name = robot.robot_id
    if robot.conflicts:
        is_news = robot.conflicts > robot.conflicts_yesterday
        yield (critical if is_news else note)(
            name,
            f"{counted(robot.conflicts, 'episode')} came under the sequence of others"
            + _over_a_day(robot.conflicts_yesterday),
            "'fleet episodes verify' says which, and what that may mean",
        )
    for words in robot.warnings:
        yield warning(name, words)


def _told_by_how_it_runs(robot: RobotStatus, overview: Overview, now_ns: int) -> Iterator[Concern]:
    name = robot.robot_id
    yield from _silence(robot, overview.status.uptime_s)
    if robot.missing:
        yield (warning if robot.missing > robot.missing_yesterday else note)(
            name,
            f"{counted(robot.missing, 'episode')} missing of the numbers that it gave"
            + _over_a_day(robot.missing_yesterday),
            "'fleet episodes verify' lists them",
        )
    if overview.listing is not None and robot.connected:
        yield from _behind(robot, overview.listing, now_ns)
    yield from ailments(robot)


def _over_a_day(count: int) -> str:
    return f", {count} of them for more than a day" if count else ""


def _silence(robot: RobotStatus, uptime_s: float) -> Iterator[Concern]:
    remedy = "is it switched on and on the network? If it left for good, 'fleet revoke' it"
    if robot.last_seen_s > SILENT_S:
        yield warning(robot.robot_id, f"silent for {duration(robot.last_seen_s)}", remedy)
    elif robot.last_seen_s < 0 and robot.attempts and uptime_s > SILENT_S:
        yield warning(
            robot.robot_id, f"not heard since the learner began {duration(uptime_s)} ago", remedy
        )


def _behind(robot: RobotStatus, listing: ReleaseList, now_ns: int) -> Iterator[Concern]:
    assigned = assigned_version(listing, robot.robot_id)
    if robot.release_version == assigned:
        return
    since_s = (now_ns - _made_after(robot.release_version, listing.releases, now_ns)) / 1e9
    if since_s > BEHIND_S:
        has = f"release {robot.release_version}" if robot.release_version else "no release"
        yield warning(
            robot.robot_id,
            f"still uses {has} instead of {assigned}, {duration(since_s)} after another came",
            "its log says why it does not take it",
        )


def _made_after(version: int, releases: list[ReleaseEntry], now_ns: int) -> int:
    """Return when the first release above ``version`` was made, of those that are kept."""
    above = [entry.created_at_ns for entry in releases if entry.version > version]
    return min(above, default=now_ns)
