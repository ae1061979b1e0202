"""Runs ``fleet demo`` as a newcomer would, and judges whether the fleet learned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LEAST_GREEDY_SUCCESS = 0.55
"""An untrained network gets about 0.4: the search goes for whatever stands out from the floor."""
LEAST_GREEDY_ATTEMPTS = 50


def demo_arguments(out: Path, *, minutes: float, robots: int, learner: Path | None) -> list[str]:
    arguments = [sys.executable, "-m", "fleet", "demo", "--out", str(out), "--no-evaluate"]
    arguments += ["--minutes", str(minutes), "--robots", str(robots)]
    return arguments + (["--learner", str(learner)] if learner else [])


def run_fleet(out: Path, *, minutes: float, robots: int, learner: str = "") -> dict[str, Any]:
    """Run a fleet to its end and return its summary.

    Args:
        out: the run folder.
        minutes: of collecting and learning.
        robots: how many.
        learner: settings laid over ``learner.toml``, TOML.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = out.parent / f"{out.name}-learner.toml"
    settings.write_text(learner)
    arguments = demo_arguments(out, minutes=minutes, robots=robots, learner=settings)
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60 * minutes + 240)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "summary.json").read_text())


def complaints(summary: dict[str, Any]) -> list[str]:
    """Return what speaks against this fleet having learned and delivered; nothing is best."""
    greedy, random = summary["final_greedy_success"], summary["training_random_success"]
    found = []
    if greedy["attempts"] < LEAST_GREEDY_ATTEMPTS:
        found.append(f"only {greedy['attempts']} greedy attempts")
    if (greedy["success"] or 0.0) < LEAST_GREEDY_SUCCESS:
        found.append(f"greedy success is {greedy['success']}")
    if (greedy["success"] or 0.0) < 2 * (random["success"] or 1.0):
        found.append(f"greedy {greedy['success']} is not twice random {random['success']}")
    for fault in ("missing", "duplicated", "tombstoned", "left_in_outboxes"):
        if summary[f"episodes_{fault}"]:
            found.append(f"episodes {fault}: {summary[f'episodes_{fault}']}")
    if summary["episodes_sent"] != summary["episodes_stored"]:
        found.append(f"{summary['episodes_sent']} sent, {summary['episodes_stored']} stored")
    return found
