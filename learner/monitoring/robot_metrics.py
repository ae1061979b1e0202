"""The metrics of every robot, as text."""

from __future__ import annotations

from collections.abc import Iterator

from learner.monitoring.exposition import write_family
from learner.monitoring.fleet_snapshot import RobotSnapshot
from learner.monitoring.robot_families import (
    CONNECTION,
    COUNTS,
    DRIFT,
    HEALTH,
    HEARTBEAT,
    LEDGER,
    refused,
)


def robots_text(robots: list[RobotSnapshot]) -> Iterator[str]:
    """Yield the text of every robot's metrics."""
    heads = [(f'robot="{robot.name}"', robot) for robot in robots]
    ledgers = [(head, robot.ledger) for head, robot in heads if robot.ledger is not None]
    counts = [(head, robot.counts) for head, robot in heads]
    beats = [(head, beat) for head, robot in heads if (beat := robot.view.heartbeat) is not None]
    healths = [(head, beat.health) for head, beat in beats if beat.health is not None]
    drifts = [(head, robot.drift) for head, robot in heads if robot.drift is not None]
    for ledger_family in LEDGER:
        yield from write_family(ledger_family, ledgers)
    for counts_family in COUNTS:
        yield from write_family(counts_family, counts)
    for family in (*CONNECTION, refused(robots)):
        yield from write_family(family, heads)
    for beat_family in HEARTBEAT:
        yield from write_family(beat_family, beats)
    for health_family in HEALTH:
        yield from write_family(health_family, healths)
    for drift_family in DRIFT:
        yield from write_family(drift_family, drifts)
