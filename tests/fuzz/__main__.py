"""Fuzz every byte that comes from a network or a serial line.

python -m tests.fuzz [--minutes 30] [--inputs 10000000] [--target NAME]...
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from tests.fuzz.campaign import Campaign, TargetResult
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run a campaign; 1 when an input crashed something, or a target had no turn."""
    options = _options()
    targets = [TARGETS[name] for name in options.target or TARGETS]
    campaign = Campaign(targets, options.out, max_inputs=options.inputs, max_s=options.minutes * 60)
    began_s = time.monotonic()

    def progress(result: TargetResult) -> None:
        print(
            f"{time.monotonic() - began_s:6.0f} s  {campaign.inputs:>10,} inputs  {result.name}: "
            f"{result.inputs_per_s:,.0f}/s, {result.coverage} reached",
            flush=True,
        )

    campaign.run(progress)
    wall_s = time.monotonic() - began_s
    results = list(campaign.results.values())
    print(_table(results, wall_s))
    report = _write_report(options.out, results, wall_s)
    crashes = [crash for result in results for crash in result.crashes]
    print(f"{report}: {len(crashes)} crashes", *crashes, sep="\n  ")
    untried = [result.name for result in results if not result.inputs]
    if untried:
        print(f"no turn for {', '.join(untried)}: give it more minutes", file=sys.stderr)
    return 1 if crashes or untried else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Fuzz, guided by coverage, every byte that comes from a network or a serial "
        "line: messages, episode records, releases, what gateway and agent make of them, and what "
        "motors answer. It ends after so many minutes or inputs, whatever comes first. A crash is "
        "any exception but the declared ones, an input that computes for ten seconds or waits for "
        "a minute, or memory beyond the target's limit. Run one again with: "
        "python -m tests.fuzz.replay TARGET FILE",
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="at most (30)")
    parser.add_argument("--inputs", type=int, default=10_000_000, help="at most (10 million)")
    parser.add_argument(
        "--target", action="append", choices=TARGETS, help="only this one; may be repeated"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/fuzz"), help="corpora, crashes, report (runs/fuzz)"
    )
    return parser.parse_args()


def _table(results: list[TargetResult], wall_s: float) -> str:
    head = ("target", "inputs", "inputs/s", "reached", "corpus", "memory", "limit", "crashes")
    rows = [
        (
            result.name,
            f"{result.inputs:,}",
            f"{result.inputs_per_s:,.0f}",
            f"{result.coverage:,}",
            f"{result.corpus:,}",
            f"{result.peak_memory_mb} MB",
            f"{result.memory_limit_mb} MB",
            str(len(result.crashes)),
        )
        for result in results
    ]
    total = sum(result.inputs for result in results)
    rows.append(("all", f"{total:,}", f"{total / wall_s:,.0f}", "", "", "", "", ""))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        row[0].ljust(widths[0])
        + "".join(cell.rjust(width + 2) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in (head, *rows)
    )


def _write_report(folder: Path, results: list[TargetResult], wall_s: float) -> Path:
    report = folder / "report.json"
    content = {
        "wall_s": round(wall_s, 1),
        "inputs": sum(result.inputs for result in results),
        "crashes": sum(len(result.crashes) for result in results),
        "targets": [dataclasses.asdict(result) for result in results],
    }
    report.write_text(json.dumps(content, indent=2) + "\n")
    return report


if __name__ == "__main__":
    sys.exit(main())
