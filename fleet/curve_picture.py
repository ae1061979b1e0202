"""The learning curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fleet.curve import WINDOW, CurveRow, releases_in_use
from fleet.proportion import Proportion
from protocol.episode import Mode

_INK = "#1f2933"
_GREY = "#7b8794"
_GREEDY = "#0b6e99"
_ALL = "#c3cdd7"
_RANDOM = "#c8553d"
_HELD_OUT = "#2f855a"


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveData:
    """What the picture shows."""

    title: str
    rows: Sequence[CurveRow]
    random: Proportion
    """The random baseline, on the same scenes as ``held_out`` where both were measured."""
    held_out: Proportion | None
    """Greedy success of the last release on objects that training never saw."""


def draw_learning_curve(data: CurveData, path: Path) -> None:
    """Write a PNG of rolling success over running time."""
    figure = Figure(figsize=(9.0, 4.6), dpi=160, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    _style(axes)
    _draw_random(axes, data.random)
    _draw_rolling(axes, data.rows)
    _draw_releases(axes, data.rows)
    end_min = max(data.rows[-1].time_s / 60, 0.1) if data.rows else 1.0
    if data.held_out is not None and data.held_out.attempts:
        _draw_held_out(axes, data.held_out, end_min)
    axes.set_xlim(0, end_min * 1.06)
    _add_attempts_axis(axes, data.rows)
    axes.set_title(data.title, loc="left", color=_INK, fontsize=12, fontweight="bold", pad=12)
    # Above the random band, below where the curve ends.
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 0.26),
        frameon=False,
        fontsize=8.5,
        labelcolor=_INK,
    )
    figure.savefig(path)


def _style(axes: Axes) -> None:
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("grasp success", color=_INK)
    axes.set_xlabel("time since the learner was ready, minutes", color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.tick_params(colors=_GREY, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#cbd2d9")


def _draw_random(axes: Axes, random: Proportion) -> None:
    if random.interval is None or random.rate is None:
        return
    axes.axhspan(*random.interval, color=_RANDOM, alpha=0.15, linewidth=0)
    axes.axhline(
        random.rate, color=_RANDOM, linewidth=1.2, linestyle=(0, (4, 3)), label=f"random: {random}"
    )


def _draw_rolling(axes: Axes, rows: Sequence[CurveRow]) -> None:
    settled = [row for row in rows if row.rolling_all.attempts >= WINDOW // 2]
    axes.plot(
        [row.time_s / 60 for row in settled],
        [row.rolling_all.rate or 0.0 for row in settled],
        color=_ALL,
        linewidth=1.4,
        label=f"all attempts, last {WINDOW}",
    )
    greedy = [row for row in rows if row.mode == Mode.GREEDY]
    if not greedy:
        return
    times = np.array([row.time_s for row in greedy]) / 60
    intervals = np.array([row.rolling.interval for row in greedy])
    axes.fill_between(times, intervals[:, 0], intervals[:, 1], color=_GREEDY, alpha=0.16, lw=0)
    axes.plot(
        times,
        [row.rolling.rate or 0.0 for row in greedy],
        color=_GREEDY,
        linewidth=2.2,
        label=f"greedy attempts, last {WINDOW}, 95 % interval",
    )


def _draw_releases(axes: Axes, rows: Sequence[CurveRow]) -> None:
    times = [time_s / 60 for time_s, _ in releases_in_use(rows)]
    if times:
        axes.vlines(times, 0, 0.018, color=_INK, linewidth=0.7, alpha=0.7)
        axes.annotate(
            f"{len(times)} releases in use",
            (times[0], 0.024),
            color=_GREY,
            fontsize=8,
            va="bottom",
        )


def _draw_held_out(axes: Axes, held_out: Proportion, end_min: float) -> None:
    low, high = held_out.interval or (0.0, 1.0)
    rate = held_out.rate or 0.0
    axes.errorbar(
        [end_min * 1.025],
        [rate],
        yerr=[[rate - low], [high - rate]],
        color=_HELD_OUT,
        marker="o",
        markersize=6,
        capsize=4,
        linewidth=2,
        label=f"unseen objects: {held_out}",
        zorder=5,
    )


def _add_attempts_axis(axes: Axes, rows: Sequence[CurveRow]) -> None:
    """Mark round numbers of attempts along the top."""
    if not rows:
        return
    total = rows[-1].attempts
    ticks = [int(tick) for tick in MaxNLocator(6, integer=True).tick_values(0, total)]
    ticks = [tick for tick in ticks if 0 < tick <= total]
    top = axes.secondary_xaxis("top")
    top.set_xticks([rows[tick - 1].time_s / 60 for tick in ticks], [f"{tick:,}" for tick in ticks])
    top.set_xlabel("attempts of the fleet", color=_GREY, fontsize=9)
    top.tick_params(colors=_GREY, labelsize=8, length=3)
    top.spines["top"].set_visible(False)
