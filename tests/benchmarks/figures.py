"""What a benchmark found: figures with their spread and the bound that they are held to."""

from __future__ import annotations

import argparse
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

_COMPARISONS = {">=": operator.ge, "<=": operator.le}


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    name: str
    value: float
    """Median over the rounds, unless the name says otherwise."""
    unit: str
    """"x" for a ratio within one run."""
    low: float | None = None
    high: float | None = None
    """Smallest and largest of the rounds."""
    bound: str = ""
    """``">= 0.6"`` or ``"<= 1.5"``; empty where nothing is promised."""
    note: str = ""
    labels: dict[str, str | int] = {}
    """What it was measured on, for a picture to sort by: system, agents, kind of episode."""

    @property
    def is_met(self) -> bool | None:
        """Whether the bound holds; None without a bound."""
        if not self.bound:
            return None
        comparison, limit = self.bound.split()
        return bool(_COMPARISONS[comparison](self.value, float(limit)))


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """All that one benchmark found."""

    title: str
    settings: dict[str, str | int | float]
    figures: list[Figure]
    failures: list[str] = []
    """What could not be measured, and why."""


def figure_of(name: str, rounds: Sequence[float], unit: str, **rest: Any) -> Figure:
    """Return the median of ``rounds`` with their spread."""
    low, high = float(np.min(rounds)), float(np.max(rounds))
    return Figure(name=name, value=float(np.median(rounds)), unit=unit, low=low, high=high, **rest)


def add_out_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--out FILE``, where findings are written as JSON."""
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the findings as JSON")


def report(findings: Findings, out: Path | None) -> None:
    """Print the findings as a table, and write them to ``out`` if that is given."""
    print(f"\n{findings.title}")
    print("  " + ", ".join(f"{name} {value}" for name, value in findings.settings.items()))
    for figure in findings.figures:
        print(f"  {_line(figure)}")
    for failure in findings.failures:
        print(f"  FAILED {failure}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(msgspec.json.format(msgspec.json.encode(findings), indent=2))


def _line(figure: Figure) -> str:
    spread = "" if figure.low is None else f"({_number(figure.low)} to {_number(figure.high)})"
    verdict = {True: f"{figure.bound}: met", False: f"{figure.bound}: NOT MET", None: ""}
    value = f"{_number(figure.value)} {figure.unit}"
    return (
        f"{figure.name:66} {value:>18} {spread:22} {verdict[figure.is_met]} {figure.note}".rstrip()
    )


def _number(value: float | None) -> str:
    """Return four digits, never as a power of ten."""
    if value is None:
        return "?"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
