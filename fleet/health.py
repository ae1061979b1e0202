"""Is the fleet well, who is not, and what is there to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fleet.overview import Overview
from fleet.proportion import Proportion
from fleet.releases import assigned_version
from fleet.status import rolling_greedy
from fleet.words import counted, duration
from protocol.messages import ReleaseEntry, ReleaseList, RobotStatus

LEARNER = "learner"
SILENT_S = 60.0
BEHIND_S = 600.0
"""For so long a robot may still use what it had when a release came: an attempt takes a while."""
FULL_OUTBOX = 100
"""Attempts that wait on a robot: more than a hiccup of the network leaves there."""
_FEWEST_ATTEMPTS = 30


class Severity(StrEnum):
    """How soon somebody should look; the first one first."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True, slots=True)
class Concern:
    """One thing that somebody should look at."""

    about: str
    """The robot, or LEARNER."""
    severity: Severity
    says: str
    """What was found, with its figures."""
    remedy: str
    """What to do first; "" where ``says`` tells."""

    def __str__(self) -> str:
        return f"{self.about}: {self.says}" + (f"; {self.remedy}" if self.remedy else "")


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
    order = list(Severity)
    return sorted(found, key=lambda concern: order.index(concern.severity))


def _about_the_learner(overview: Overview) -> Iterator[Concern]:
    status = overview.status
    known = [robot for robot in status.robots if robot.last_seen_s >= 0]
    if known and not any(robot.connected for robot in known):
        yield _critical(
            LEARNER,
            f"none of {counted(len(known), 'robot')} is connected",
            "look at the network between them and the gateway's port",
        )
    for warning in status.warnings:
        yield _warning(LEARNER, warning)
    if overview.listing is None:
        yield _critical(
            LEARNER,
            "the release server does not answer: who is behind or pinned is not known",
            "the learner's log says why",
        )
    else:
        for warning in overview.listing.warnings:
            yield _warning(LEARNER, warning)


def _told_by_what_is_stored(robot: RobotStatus) -> Iterator[Concern]:
    """Also of a robot that was shut out: its episodes are trained on."""
    name = robot.robot_id
    if robot.conflicts:
        yield _critical(
            name,
            f"{counted(robot.conflicts, 'episode')} came under the sequence of others",
            "'fleet episodes verify' says which, and what that may mean",
        )
    for warning in robot.warnings:
        yield _warning(name, warning)


def _told_by_how_it_runs(robot: RobotStatus, overview: Overview, now_ns: int) -> Iterator[Concern]:
    name = robot.robot_id
    yield from _silence(robot, overview.status.uptime_s)
    if robot.missing:
        yield _warning(
            name,
            f"{counted(robot.missing, 'episode')} missing of the numbers that it gave",
            "'fleet episodes verify' lists them",
        )
    if robot.outbox_episodes > FULL_OUTBOX and robot.connected:
        yield _warning(
            name,
            f"{counted(robot.outbox_episodes, 'episode')} wait in its outbox",
            "its network or the learner's disk does not keep up",
        )
    if overview.listing is not None and robot.connected:
        yield from _behind(robot, overview.listing, now_ns)
    yield from _unlike_the_others(robot, overview)
    yield from _unlike_before(robot)


def _silence(robot: RobotStatus, uptime_s: float) -> Iterator[Concern]:
    remedy = "is it switched on and on the network? If it left for good, 'fleet revoke' it"
    if robot.last_seen_s > SILENT_S:
        yield _warning(robot.robot_id, f"silent for {duration(robot.last_seen_s)}", remedy)
    elif robot.last_seen_s < 0 and robot.attempts and uptime_s > SILENT_S:
        yield _warning(
            robot.robot_id, f"not heard since the learner began {duration(uptime_s)} ago", remedy
        )


def _behind(robot: RobotStatus, listing: ReleaseList, now_ns: int) -> Iterator[Concern]:
    assigned = assigned_version(listing, robot.robot_id)
    if robot.release_version == assigned:
        return
    since_s = (now_ns - _made_after(robot.release_version, listing.releases, now_ns)) / 1e9
    if since_s > BEHIND_S:
        has = f"release {robot.release_version}" if robot.release_version else "no release"
        yield _warning(
            robot.robot_id,
            f"still uses {has} instead of {assigned}, {duration(since_s)} after another came",
            "its log says why it does not take it",
        )


def _made_after(version: int, releases: list[ReleaseEntry], now_ns: int) -> int:
    """Return when the first release above ``version`` was made, of those that are kept."""
    above = [entry.created_at_ns for entry in releases if entry.version > version]
    return min(above, default=now_ns)


def _unlike_the_others(robot: RobotStatus, overview: Overview) -> Iterator[Concern]:
    own = rolling_greedy(robot)
    others = sum(
        (rolling_greedy(one) for one in overview.status.robots if one is not robot),
        Proportion(successes=0, attempts=0),
    )
    if min(own.attempts, others.attempts) < _FEWEST_ATTEMPTS:
        return
    assert own.interval is not None
    assert others.interval is not None
    if own.interval[1] < others.interval[0]:
        yield _warning(
            robot.robot_id,
            f"greedy success {own}, the others' {others}",
            "look at its gripper and its camera, then let it find its hand-eye map anew",
        )


def _unlike_before(robot: RobotStatus) -> Iterator[Concern]:
    success, calibration = robot.success_drift, robot.calibration_drift
    if success is not None and success.detected:
        yield _warning(
            robot.robot_id,
            f"success has left its past: {success.now:.0%} instead of {success.before:.0%} for "
            f"about {counted(success.since, 'attempt')}",
            "look at its gripper and its camera",
        )
    if calibration is not None and calibration.detected:
        yield _warning(
            robot.robot_id,
            "predictions have left what it achieves: where it predicts 80%, about "
            f"{calibration.now:.0%} succeed instead of {calibration.before:.0%}",
            "look at its camera, then let it find its hand-eye map anew",
        )


def _critical(about: str, says: str, remedy: str = "") -> Concern:
    return Concern(about=about, severity=Severity.CRITICAL, says=says, remedy=remedy)


def _warning(about: str, says: str, remedy: str = "") -> Concern:
    return Concern(about=about, severity=Severity.WARNING, says=says, remedy=remedy)
