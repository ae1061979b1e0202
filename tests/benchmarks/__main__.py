"""Runs the benchmarks and puts what they found into one table, one JSON file and one picture.

    python -m tests.benchmarks                     all of them, in half an hour
    python -m tests.benchmarks --parts ack search  some of them
    python -m tests.benchmarks --minutes 10        less time for each

Every part is a program of its own (python -m tests.benchmarks.bench_<part> --help) and gets its
share of the time. Ratios are within one run and hold where absolute figures move by a factor of
two; run it on a machine that has nothing else to do. Peers are installed from the package index
into environments of their own, once. docs/benchmarks.md says what is measured and how.

Exit status: 1 when a part failed, although the others were run; with --strict also when a figure
misses its bound.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.benchmarks.figures import Figure, Findings, report
from tests.benchmarks.machine import LoadWatch, Machine, describe
from tests.benchmarks.parts import Outcome, part_names, run_part, seconds_of
from tests.benchmarks.picture import draw

MINUTES = 27.0
"""Leaves time for what starts and ends below half an hour."""


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of the suite found, as it is written."""

    machine: Machine
    wall_s: dict[str, float]
    """By part."""
    findings: dict[str, Findings]
    """By part."""
    failures: dict[str, str]
    """Why a part failed, by part."""


def main() -> None:
    arguments = _parser().parse_args()
    # A SIGTERM ends the part that runs, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = arguments.out
    parts_folder = out / "parts"
    parts_folder.mkdir(parents=True, exist_ok=True)
    names = arguments.parts or part_names()
    try:
        with LoadWatch() as load:
            outcomes = _run(seconds_of(names, arguments.minutes), parts_folder)
    except KeyboardInterrupt:
        sys.exit("benchmarks: interrupted")
    suite = merge(outcomes, describe(load))
    path = out / "benchmarks.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(suite), indent=2))
    draw(suite.machine, suite.findings, out / "benchmarks.png")
    print_table(suite)
    print(f"\n{path}\n{out / 'benchmarks.png'}")
    sys.exit(_status(suite, strict=arguments.strict))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = part_names()
    parser.add_argument("--parts", nargs="+", choices=names, metavar="PART", help=", ".join(names))
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"for all parts together ({MINUTES:g})"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench"), help="folder of the results (runs/bench)"
    )
    parser.add_argument("--strict", action="store_true", help="a missed bound is a failure")
    return parser


def _run(seconds: dict[str, float], folder: Path) -> list[Outcome]:
    outcomes = []
    for number, (name, share_s) in enumerate(seconds.items(), start=1):
        print(f"\n== {name} ({number} of {len(seconds)}), {share_s:.0f} s", flush=True)
        outcome = run_part(name, share_s, folder)
        if outcome.error:
            print(f"== {name} {outcome.error}", flush=True)
        outcomes.append(outcome)
    return outcomes


def merge(outcomes: Sequence[Outcome], machine: Machine) -> Suite:
    """Put together what parts found, and what became of those that failed."""
    return Suite(
        machine=machine,
        wall_s={one.part: round(one.wall_s, 1) for one in outcomes},
        findings={one.part: one.findings for one in outcomes if one.findings is not None},
        failures={one.part: one.error for one in outcomes if one.error},
    )


def print_table(suite: Suite) -> None:
    """Print every part's figures, what failed, and which bounds hold."""
    for findings in suite.findings.values():
        report(findings, None)
    machine = suite.machine
    during = max(machine.load_during, default=machine.load_before)
    print(f"\n{machine.cpu}, {machine.cores} cores, {machine.memory_gb} GB, Linux {machine.kernel}")
    print(
        f"commit {machine.commit}, Python {machine.python}, {machine.date}, "
        f"load average {machine.load_before} before, up to {during} during, "
        f"{sum(suite.wall_s.values()) / 60:.1f} minutes"
    )
    bounded = [figure for figure in _figures(suite) if figure.is_met is not None]
    print(f"\n{sum(bool(one.is_met) for one in bounded)} of {len(bounded)} bounds are met")
    for figure in bounded:
        if not figure.is_met:
            print(f"  NOT MET  {figure.name}: {figure.value:.3g} {figure.unit}, {figure.bound}")
    for part, error in suite.failures.items():
        print(f"  FAILED   {part} {error}")


def _figures(suite: Suite) -> list[Figure]:
    return [figure for findings in suite.findings.values() for figure in findings.figures]


def _status(suite: Suite, *, strict: bool) -> int:
    missed = any(figure.is_met is False for figure in _figures(suite))
    return 1 if suite.failures or (strict and missed) else 0


if __name__ == "__main__":
    main()
