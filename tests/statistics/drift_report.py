"""How often robots are alarmed without drift, and how soon a drop is found.

    python -m tests.statistics.drift_report --out drift.json

Takes about half an hour of one core; --scale 0.1 for a tenth of the fleets.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from fleet.proportion import Proportion
from tests.benchmarks.figures import Figure, Findings, add_out_option, report
from tests.statistics.drift_fleets import Alarms, Floats, Scenario, delays, simulate

CALM = {
    "500 robots": Scenario(robots=500, fleets=2),
    "6 robots": Scenario(robots=6, fleets=30),
    "50 robots": Scenario(robots=50, fleets=4),
    "50 robots, log-odds lifted alike": Scenario(robots=50, fleets=4, change="lifted"),
    "50 robots, the release is worse": Scenario(robots=50, fleets=4, change="worse"),
    "50 robots, 1 in 5 attempts explores": Scenario(robots=50, fleets=4, exploring=0.2),
    "50 robots, learning through 3,000": Scenario(
        robots=50, fleets=4, change="learning", change_at=3_000
    ),
    "6 robots, learning through 3,000": Scenario(
        robots=6, fleets=30, change="learning", change_at=3_000
    ),
    "6 robots, the release is worse": Scenario(robots=6, fleets=30, change="worse"),
    "2 robots": Scenario(robots=2, fleets=40),
    "1 robot": Scenario(robots=1, fleets=40),
} | {
    f"200 robots of {usual:.0%}": Scenario(robots=200, usual=(usual, usual), change="none")
    for usual in (0.6, 0.7, 0.8, 0.9, 0.95)
}


def _drop(usual: float, to: float, at: int, **changes: Any) -> Scenario:
    standard = {"robots": 20, "dropped": 2, "fleets": 50, "change": "none", **changes}
    return Scenario(usual=(usual, usual), drop_to=to, drop_at=at, attempts=at + 1_000, **standard)


DROPS = (
    {f"0.9 to 0.7 after {at:,}": _drop(0.9, 0.7, at) for at in (300, 1_000, 5_000)}
    | {f"0.95 to 0.8 after {at:,}": _drop(0.95, 0.8, at) for at in (300, 1_000)}
    | {f"0.8 to 0.6 after {at:,}": _drop(0.8, 0.6, at) for at in (300, 1_000)}
    | {
        f"0.9 to 0.7 after 1,000, {dropped} of {robots}": _drop(
            0.9, 0.7, 1_000, robots=robots, dropped=dropped, fleets=fleets
        )
        for robots, dropped, fleets in ((50, 1, 60), (50, 5, 12), (6, 1, 60), (6, 3, 20))
    }
    | {
        f"0.9 to 0.7 after 1,000, 1 of {robots}": _drop(
            0.9, 0.7, 1_000, robots=robots, dropped=1, fleets=60
        )
        for robots in (2, 1)
    }
    | {"0.9 to 0.7 after 1,000, 1 in 5 explores": _drop(0.9, 0.7, 1_000, exploring=0.2)}
    | {
        f"0.8 lifted to 0.9, {later} later to 0.7, {robots} robots": _drop(
            0.8,
            0.7,
            1_000 + later,
            robots=robots,
            dropped=max(1, robots // 10),
            fleets=fleets,
            change="halved",
            change_at=1_000,
        )
        for robots, fleets in ((6, 60), (50, 12))
        for later in (20, 100, 300)
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
    figures = []
    with ProcessPoolExecutor(arguments.workers) as workers:
        found = workers.map(simulate, scenarios.values())
        for (name, scenario), alarms in zip(scenarios.items(), found, strict=True):
            more = times(name, alarms, scenario) if name in DROPS else shares(name, alarms)
            figures.extend(more)
            # It takes long: what is found so far can be read while the rest is simulated.
            report(Findings(title=name, settings={}, figures=more), None)
    title = "drift of single robots in simulated fleets"
    settings = {"attempts": 10_000, "scale": arguments.scale}
    report(Findings(title=title, settings=settings, figures=figures), arguments.out)


if __name__ == "__main__":
    main()
