"""How often robots are alarmed without drift, and how soon a drop is found.

    python -m tests.statistics.drift_report --out drift.json

Takes about an hour of one core; --scale 0.1 for a tenth of the fleets.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from fleet.proportion import Proportion
from tests.benchmarks.figures import Figure, Findings, add_out_option, report
from tests.statistics.drift_fleets import Alarms, Floats, Scenario, delays, simulate

CALM = {
    "500 robots": Scenario(robots=500, fleets=2),
    "50 robots": Scenario(robots=50, fleets=4),
    "6 robots": Scenario(robots=6, fleets=40),
    "2 robots": Scenario(robots=2, fleets=60),
    "1 robot": Scenario(robots=1, fleets=60),
    "50 robots, log-odds lifted": Scenario(robots=50, fleets=4, lift="log-odds"),
    "50 robots, the release is worse": Scenario(robots=50, fleets=4, lift="worse"),
    "6 robots, the release is worse": Scenario(robots=6, fleets=40, lift="worse"),
    "50 robots, 1 in 5 attempts explores": Scenario(robots=50, fleets=4, exploring=0.2),
} | {
    f"200 robots that succeed in {usual:.0%}": Scenario(
        robots=200, usual=(usual, usual), lift="none"
    )
    for usual in (0.6, 0.7, 0.8, 0.9, 0.95)
}
_DROP = Scenario(robots=6, fleets=100, dropped=1, drop_to=0.7, usual=(0.9, 0.9), lift="none")


def _drop(**changes: object) -> Scenario:
    scenario = replace(_DROP, **changes)  # type: ignore[arg-type]
    return replace(scenario, attempts=scenario.drop_at + 1_000)


DROPS = (
    {f"0.9 to 0.7 after {at:,}": _drop(drop_at=at) for at in (300, 1_000, 5_000, 9_000)}
    | {
        f"0.95 to 0.8 after {at:,}": _drop(drop_at=at, usual=(0.95, 0.95), drop_to=0.8)
        for at in (300, 1_000, 5_000)
    }
    | {
        f"0.8 to 0.6 after {at:,}": _drop(drop_at=at, usual=(0.8, 0.8), drop_to=0.6)
        for at in (300, 1_000, 5_000)
    }
    | {
        "0.9 to 0.7 after 1,000, 1 of 2": _drop(drop_at=1_000, robots=2),
        "0.9 to 0.7 after 1,000, alone": _drop(drop_at=1_000, robots=1),
        "0.9 to 0.7 after 1,000, 5 of 50": _drop(drop_at=1_000, robots=50, dropped=5, fleets=20),
        "0.9 to 0.7 after 1,000, 3 of 6": _drop(drop_at=1_000, dropped=3, fleets=40),
        "0.9 to 0.7 after 1,000, 1 in 5 explores": _drop(drop_at=1_000, exploring=0.2),
        "0.9 to 0.7 after 1,000, 1 of 50": _drop(drop_at=1_000, robots=50, dropped=1, fleets=60),
    }
    | {
        f"0.8 lifted to 0.9, then to 0.7 {after} later, 1 of {robots}": _drop(
            robots=robots,
            fleets=60,
            usual=(0.8, 0.8),
            lift="halved",
            lift_at=1_000,
            drop_at=1_000 + after,
        )
        for robots in (6, 50)
        for after in (20, 100, 300)
    }
)


def shares(name: str, found: Alarms) -> list[Figure]:
    """Return the shares of robots that were alarmed without drift."""
    parts = {"success": found.success, "calibration": found.calibration, "either": found.any}
    return [_share(f"alarmed falsely, {name}: {part}", first) for part, first in parts.items()]


def _share(name: str, first: Floats) -> Figure:
    alarmed = Proportion.of(np.isfinite(first).tolist())
    assert alarmed.interval is not None
    low, high = (100 * end for end in alarmed.interval)
    bound = "<= 5" if name.endswith("either") else ""
    value = 100 * alarmed.successes / alarmed.attempts
    note = f"{alarmed.attempts} robots, 95 % interval"
    return Figure(name=name, value=value, unit="%", low=low, high=high, bound=bound, note=note)


def times(name: str, found: Alarms, scenario: Scenario) -> list[Figure]:
    """Return after how many attempts a drop was found."""
    return [
        _time(f"{name}: {part}", delays(first, scenario), scenario)
        for part, first in (("success", found.success), ("calibration", found.calibration))
    ]


def _time(name: str, late: Floats, scenario: Scenario) -> Figure:
    ordered = np.sort(late)
    # Ranks of the median's 95 % interval, by the normal approximation of the binomial.
    half = 0.98 * np.sqrt(len(late))
    ranks = np.clip([len(late) / 2 - half, len(late) / 2 + half], 0, len(late) - 1).astype(int)
    low, high = (float(ordered[rank]) for rank in ranks)
    tenth = float(np.quantile(late, 0.9, method="higher"))
    # Of robots alone against their past; others in the fleet that drop too make it harder.
    promised = name.startswith("0.9 to 0.7 after") and name.endswith("00: success")
    return Figure(
        name=name,
        value=float(np.median(late)),
        unit="attempts",
        low=low,
        high=high,
        bound="<= 90" if promised else "",
        note=f"9 of 10 within {tenth:.0f}; {len(late)} robots",
    )


def main() -> None:
    """Simulate and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the fleets (1)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (all cores)")
    parser.add_argument("--only", default="", help="scenarios whose name has this in it (all)")
    add_out_option(parser)
    arguments = parser.parse_args()
    scenarios = {
        name: replace(scenario, fleets=max(1, round(scenario.fleets * arguments.scale)))
        for name, scenario in (CALM | DROPS).items()
        if arguments.only in name
    }
    with ProcessPoolExecutor(arguments.workers) as workers:
        found = dict(zip(scenarios, workers.map(simulate, scenarios.values()), strict=True))
    figures = []
    for name, scenario in scenarios.items():
        more = times(name, found[name], scenario) if name in DROPS else shares(name, found[name])
        figures.extend(more)
    title = "drift of single robots in simulated fleets"
    settings = {"attempts": 10_000, "scale": arguments.scale}
    report(Findings(title=title, settings=settings, figures=figures), arguments.out)


if __name__ == "__main__":
    main()
