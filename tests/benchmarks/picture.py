"""The suite's figures as a picture: throughput by system and agents, ratios beside their bounds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from tests.benchmarks.figures import Figure, Findings
from tests.benchmarks.machine import Machine
from tests.benchmarks.peers.systems import SYSTEMS

_MET, _MISSED = "#2e7d32", "#c62828"
_OURS = {"ours": "#1565c0", "ours, two gateways": "#64b5f6"}
_OTHERS = ("#9e9e9e", "#616161", "#90a4ae", "#ffb74d", "#ffcc80", "#a1887f", "#ce93d8")
_KINDS = {"jpeg": "JPEG records", "raw": "raw pictures"}
_NAME_CHARS = 62


def draw(machine: Machine, findings: Mapping[str, Findings], path: Path) -> None:
    """Write a PNG; a panel without figures says so."""
    figures = [figure for one in findings.values() for figure in one.figures]
    bounded = [figure for figure in figures if figure.is_met is not None]
    height = max(9.0, 3.0 + 0.32 * len(bounded))
    canvas = Canvas(figsize=(17, height), layout="constrained")
    FigureCanvasAgg(canvas)
    grid = canvas.add_gridspec(2, 2, width_ratios=(1.3, 1))
    colours = _colours(figures)
    for row, (kind, title) in enumerate(_KINDS.items()):
        rates = [figure for figure in figures if figure.labels.get("kind") == kind]
        axes = canvas.add_subplot(grid[row, 0])
        _draw_rates(axes, title, rates, colours)
        if row == 0 and rates:
            canvas.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    _draw_bounds(canvas.add_subplot(grid[:, 1]), bounded)
    canvas.suptitle(
        f"{machine.cpu}, {machine.cores} cores, {machine.date}, commit {machine.commit}, "
        f"load before {machine.load_before}",
        fontsize=10,
    )
    canvas.savefig(path, dpi=110)


def _colours(figures: Sequence[Figure]) -> dict[str, str]:
    """Return one colour for each system, the same in every panel."""
    systems = dict.fromkeys(
        str(one.labels["system"]) for one in figures if one.labels.get("kind") in _KINDS
    )
    others = [system for system in systems if system not in _OURS]
    return dict(zip(others, itertools.cycle(_OTHERS), strict=False)) | _OURS


def _draw_rates(
    axes: Axes, title: str, figures: Sequence[Figure], colours: Mapping[str, str]
) -> None:
    axes.set_title(f"ingestion, {title}: episodes acked per second", fontsize=11)
    if not figures:
        _say_empty(axes)
        return
    there = {str(figure.labels["system"]) for figure in figures}
    systems = [one.name for one in SYSTEMS if one.name in there]
    agents = sorted({int(figure.labels["agents"]) for figure in figures})
    width = 0.85 / len(systems)
    for number, system in enumerate(systems):
        own = [figure for figure in figures if figure.labels["system"] == system]
        places = [
            agents.index(int(figure.labels["agents"])) + (number - len(systems) / 2) * width
            for figure in own
        ]
        values = [figure.value for figure in own]
        below = [figure.value - (figure.low or figure.value) for figure in own]
        above = [(figure.high or figure.value) - figure.value for figure in own]
        axes.bar(
            places,
            values,
            width,
            align="edge",
            yerr=(below, above),
            error_kw={"elinewidth": 0.8},
            color=colours[system],
            label=f"{system}: {own[0].note.rpartition(' (')[0] or own[0].note}",
        )
    axes.set_yscale("log")
    axes.set_xticks(range(len(agents)), [f"{count} agent{'s' * (count > 1)}" for count in agents])
    axes.set_ylim(bottom=min(figure.value for figure in figures) / 2)
    axes.grid(axis="y", which="both", alpha=0.25)


def _draw_bounds(axes: Axes, figures: Sequence[Figure]) -> None:
    """Draw how far each figure is from its bound; to the right of the line it is met."""
    axes.set_title("figures against their bounds (1 = the bound, more is better)", fontsize=11)
    if not figures:
        _say_empty(axes)
        return
    places = range(len(figures))
    margins = [_margin(figure) for figure in figures]
    colours = [_MET if figure.is_met else _MISSED for figure in figures]
    axes.barh(places, margins, color=colours, height=0.6)
    axes.axvline(1.0, color="black", linewidth=1.2)
    axes.set_xlim(0, max(2.0, min(4.0, 1.25 * max(margins))))
    for place, figure, margin in zip(places, figures, margins, strict=True):
        text = f" {figure.value:.3g} {figure.unit} ({figure.bound})"
        # Beyond the line, so that it is not written across it.
        axes.text(min(max(margin, 1.0), 3.0), place, text, va="center", fontsize=8)
    axes.set_yticks(places, [_short(figure.name) for figure in figures], fontsize=8)
    axes.set_ylim(max(len(figures), 12) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)


def _margin(figure: Figure) -> float:
    """Return a number that is at least 1 where the bound holds."""
    comparison, limit = figure.bound.split()
    if comparison == ">=":
        return figure.value / float(limit)
    return float(limit) / figure.value if figure.value else float(limit) or 1.0


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"


def _say_empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not measured in this run", ha="center", va="center")
    axes.set_axis_off()
