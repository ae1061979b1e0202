"""Leaves a whole fleet alone for half an hour and measures what grows.

    python -m tests.soak --minutes 30 --robots 50 --out runs/soak

A learner on Ray trains lightly, and emulated robots in one process deliver episodes and take
releases. Every ten seconds memory, descriptors and threads of each process are read from outside,
and how long episodes waited for their acks. At the end: slopes per hour with their 95 % intervals,
as a table, CSV, JSON and a picture. Exit status 1: something surely grows faster than its limit,
or an episode is missing or doubled.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from tests.chaos.__main__ import make_way
from tests.chaos.fleet_under_fire import LIGHT_TRAINING, FirePlan, FleetUnderFire
from tests.chaos.independent_reader import Comparison
from tests.soak.picture import draw
from tests.soak.sample import Row, take_sample
from tests.soak.verdict import WARM_UP, complaints, settled, slopes_of, table

SAMPLE_S = 10.0
START_S = 300.0
RELEASES_EVERY_S = 30.0


def main() -> None:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING)
    make_way(arguments.out)
    plan = FirePlan(
        agents=0,
        groups=1,
        robots_per_group=arguments.robots,
        interval_s=arguments.interval_s,
        group_options=("--releases",),
        learner_options={**LIGHT_TRAINING, "releases": {"interval_s": RELEASES_EVERY_S}},
    )
    try:
        sys.exit(_run(plan, arguments.out, 60 * arguments.minutes))
    except KeyboardInterrupt:
        sys.exit("soak: interrupted; every process of the fleet has been ended")


def _run(plan: FirePlan, out: Path, seconds: float) -> int:
    with FleetUnderFire(out, plan) as fleet:
        print(f"starting a learner and {plan.robots_per_group} emulated robots", flush=True)
        fleet.wait_until_delivering(START_S)
        rows = list(samples(fleet, seconds))
        fleet.end()
        found = fleet.comparison()
        restarts = {one.name: one.starts - 1 for one in fleet.services if one.starts > 1}
    return report(rows, found, restarts, out)


def samples(fleet: FleetUnderFire, seconds: float) -> Iterator[Row]:
    """Yield a row of figures every ten seconds, and say how far it is."""
    fleet.groups[0].take_latencies_ms()  # those of the start, when there was no learner yet
    began_s = sampled_s = monotonic()
    for _ in fleet.wait(seconds):
        if monotonic() - sampled_s < SAMPLE_S:
            continue
        sampled_s = monotonic()
        row = take_sample(fleet, sampled_s - began_s, fleet.groups[0].take_latencies_ms())
        if row is not None:
            _say_progress(row, seconds)
            yield row


def _say_progress(row: Row, seconds: float) -> None:
    print(
        f"{row['at_s']:7.0f} of {seconds:.0f} s: {row['acked']:.0f} acked, "
        f"ack p50 {row['ack_p50_ms']:.0f} ms, p99 {row['ack_p99_ms']:.0f} ms, own memory: gateway "
        f"{row['gateway_own_mb']:.0f} MB, agents {row['agents_own_mb']:.0f} MB",
        flush=True,
    )


def report(rows: list[Row], found: Comparison, restarts: dict[str, int], out: Path) -> int:
    """Write and print everything; return the exit status."""
    slopes = slopes_of(settled(rows))
    faults = complaints(slopes)
    if not found.is_clean:
        faults.append("episodes are missing, doubled, altered or left over")
    if restarts:
        faults.append(f"processes ended and were started again: {restarts}")
    summary: dict[str, Any] = {
        "minutes": round(rows[-1]["at_s"] / 60, 1),
        "samples": len(rows),
        "warm_up_left_out": WARM_UP,
        "per_hour": {name: asdict(slope) for name, slope in slopes.items()},
        "episodes_spooled": found.expected,
        "episodes_stored": found.stored,
        "episodes_missing": len(found.missing),
        "episodes_doubled": len(found.doubled),
        "faults": faults,
    }
    with (out / "samples.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    draw(rows, out / "soak.png")
    print("\n".join(table(rows, slopes)))
    print(f"episodes: {found.expected} spooled, {found.stored} stored")
    print("\n".join(faults) or "nothing grows beyond its limit", out / "summary.json", sep="\n")
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=minutes_of, default=30.0, help="at least 1 (30)")
    parser.add_argument("--robots", type=int, default=50, help="emulated, in one process (50)")
    parser.add_argument(
        "--interval-s", type=float, default=10.0, help="between two episodes of one robot (10)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="removed first")
    return parser


def minutes_of(text: str) -> float:
    """Return ``text`` as minutes; fewer than one would leave too few samples for a slope."""
    minutes = float(text)
    if not minutes >= 1:
        raise argparse.ArgumentTypeError(f"{text} minutes are too few for a slope: at least 1")
    return minutes


if __name__ == "__main__":
    main()
