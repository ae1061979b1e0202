"""What a fleet lived through: a table for people, JSON for everything else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.fire import Fire
from tests.chaos.fleet_under_fire import FleetUnderFire
from tests.chaos.independent_reader import Comparison
from tests.chaos.strikes import Kind, Strike

_NAMED = 20
"""Sequences that are listed in the JSON of each kind of fault."""


def summary_of(
    fleet: FleetUnderFire, fire: Fire, found: Comparison, *, under_fire_s: float
) -> dict[str, Any]:
    """Return everything that was counted."""
    plan = fleet.plan
    return {
        "seed": plan.seed,
        "under_fire_s": round(under_fire_s, 1),
        "robot_agents": plan.agents,
        "emulated_agents": plan.groups * plan.robots_per_group,
        "learner_starts": fleet.learner.starts,
        "kills": {kind: rows for kind in Kind if (rows := _row(kind, fire.strikes))},
        "actors_of_struck_learners_end_after_s": _times(fire.actors_s),
        "processes_of_struck_learners_end_after_s": _times(fire.processes_s),
        "orphaned_learners_at_the_end": fire.orphaned,
        "episodes": _episodes(found),
        "strikes": [_strike(one, fire.strikes[0].began_s) for one in fire.strikes],
        "is_clean": is_clean(fire, found),
    }


def is_clean(fire: Fire, found: Comparison) -> bool:
    """Say whether every episode is there once and everything that was struck came back."""
    came_back = not fire.pending and not fire.orphaned
    return found.is_clean and came_back and bool(fire.strikes)


def _episodes(found: Comparison) -> dict[str, Any]:
    faults = {
        "missing": found.missing,
        "doubled": found.doubled,
        "altered": found.altered,
        "unknown": found.unknown,
    }
    counts = {name: len(keys) for name, keys in faults.items()}
    named = {
        name: [f"{robot}/{spool.hex()[:8]}/{sequence}" for robot, spool, sequence in keys[:_NAMED]]
        for name, keys in faults.items()
        if keys
    }
    return {
        "spooled": found.expected,
        "stored": found.stored,
        "left_in_outboxes": found.left,
        **counts,
        "named": named,
    }


def _row(kind: Kind, strikes: Sequence[Strike]) -> dict[str, Any]:
    ours = [strike for strike in strikes if strike.kind is kind]
    times_s = [one.recovered_after_s for one in ours if one.recovered_after_s is not None]
    if not ours:
        return {}
    return {
        "count": len(ours),
        "timed": len(times_s),
        "recovery_s_median": round(median(times_s), 1) if times_s else None,
        "recovery_s_max": round(max(times_s), 1) if times_s else None,
        "never": sum(one.is_pending for one in ours),
    }


def _strike(one: Strike, first_s: float) -> dict[str, Any]:
    facts = asdict(one)
    facts |= {"began_s": round(one.began_s - first_s, 2), "targets": sorted(one.targets)}
    del facts["is_over"]
    return facts


def table(summary: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"{'struck':32} {'times':>6} {'timed':>6} {'median s':>9} {'max s':>7} {'never':>6}"
    for kind, row in summary["kills"].items():
        middle, most = row["recovery_s_median"], row["recovery_s_max"]
        yield (
            f"{kind:32} {row['count']:6} {row['timed']:6} {_seconds(middle):>9} "
            f"{_seconds(most):>7} {row['never']:6}"
        )
    for what in ("actors", "processes"):
        times = summary[f"{what}_of_struck_learners_end_after_s"]
        yield f"last of the {what} of a struck learner ended after, s: {times or 'none timed'}"
    episodes = summary["episodes"]
    yield (
        f"episodes: {episodes['spooled']} spooled, {episodes['stored']} stored, "
        f"{episodes['missing']} missing, {episodes['doubled']} doubled, "
        f"{episodes['altered']} altered, {episodes['unknown']} unknown, "
        f"{episodes['left_in_outboxes']} left in outboxes"
    )


def _times(seconds: Mapping[int, float]) -> list[float]:
    return [round(one, 1) for _, one in sorted(seconds.items())]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def write_summary(summary: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(summary, indent=2) + "\n")
