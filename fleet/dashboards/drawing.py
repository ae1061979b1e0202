"""Draws one panel into the space that a dashboard gives it."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from fleet.dashboards.prometheus import Series
from fleet.dashboards.reading import Look, PanelView, Target
from fleet.dashboards.units import written

Floats = NDArray[np.float64]
INK, GREY = "#24292e", "#6e7780"
_GRID = "#e4e7eb"
_NAMED = {
    "green": "#56a64b",
    "yellow": "#d9a400",
    "red": "#e02f44",
    "blue": "#3274d9",
    "orange": "#ff780a",
    "purple": "#a352cc",
}
_PALETTE = (
    "#56a64b", "#d9a400", "#3274d9", "#ff780a", "#e02f44", "#a352cc", "#37872d", "#1f60c4",
    "#c4162a", "#8f3bb8", "#fa6400", "#8ab8ff",
)  # fmt: skip
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_TITLE_IN = 0.36
_TICKS_S = tuple(60 * minutes for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440))
_FEW = 12
"""Legends beyond this many say how many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PanelData:
    """A panel and what its queries found."""

    panel: PanelView
    found: Sequence[tuple[Target, Sequence[Series]]]
    start_s: float
    """UTC."""
    end_s: float
    step_s: float
    marks_s: Sequence[float]
    """Moments to mark on a time axis."""

    def named(self) -> Iterator[tuple[str, Series]]:
        """Yield every series with its legend."""
        for target, many in self.found:
            for one in many:
                yield _legend(target, one), one


def draw(axes: Axes, data: PanelData) -> None:
    """Draw a panel: ``axes`` are in inches from its upper left corner.

    Raises:
        KeyError: no panel of ours is of this kind.
    """
    panel = data.panel
    axes.text(0.14, 0.22, panel.title, fontsize=9.5, fontweight="bold", color=INK, va="center")
    if panel.kind != "row" and not any(many for _, many in data.found):
        _middle(axes, panel.no_value, GREY, 11)
        return
    _DRAWERS[panel.kind](axes, data)


def _legend(target: Target, series: Series) -> str:
    if target.legend == "__auto":
        return ", ".join(f"{name}={value}" for name, value in sorted(series.labels.items()))
    return _LABEL.sub(lambda found: series.labels.get(found[1], ""), target.legend)


def _colour(name: str | None, fallback: str = INK) -> str:
    return fallback if name is None else _NAMED.get(name, name)


def _middle(axes: Axes, text: str, colour: str, size: float) -> None:
    width_in, height_in = axes.get_xlim()[1], axes.get_ylim()[0]
    axes.text(
        width_in / 2, (height_in + _TITLE_IN) / 2, text,
        fontsize=size, color=colour, ha="center", va="center",
    )  # fmt: skip


def _draw_row(axes: Axes, data: PanelData) -> None:
    """Leave the title alone: it is all that a row has."""


def _draw_number(axes: Axes, data: PanelData) -> None:
    look = data.panel.look
    value = next(one.last for _, one in data.named())
    text = written(value, look.unit, look.decimals)
    _middle(axes, text, _colour(look.colour_of(value)), 24)


def _draw_bars(axes: Axes, data: PanelData) -> None:
    look, bars = data.panel.look, list(data.named())
    width_in, height_in = axes.get_xlim()[1], axes.get_ylim()[0]
    left, right = 1.25, width_in - 0.75
    pitch = (height_in - _TITLE_IN - 0.15) / len(bars)
    top = data.panel.highest or max(one.last for _, one in bars) or 1.0
    for place, (name, one) in enumerate(bars):
        y = _TITLE_IN + 0.05 + (place + 0.5) * pitch
        thick = min(0.7 * pitch, 0.32)
        filled = 0.0 if math.isnan(one.last) else min(max(one.last, 0.0) / top, 1.0)
        length = filled * (right - left)
        colour = _colour(look.colour_of(one.last))
        axes.barh(y, right - left, thick, left, color="#f0f1f2")
        axes.barh(y, length, thick, left, color=colour)
        axes.text(left - 0.1, y, name, fontsize=8.5, color=INK, ha="right", va="center")
        text = written(one.last, look.unit, look.decimals)
        axes.text(right + 0.08, y, text, fontsize=9, color=colour, va="center")


def _draw_lines(axes: Axes, data: PanelData) -> None:
    panel = data.panel
    plot = axes.inset_axes(_plot_space(axes))
    named = [(name, one, panel.look_of(name)) for name, one in data.named()]
    grids = {name: _on_grid(one, data) for name, one, _ in named}
    times = _grid_times(data)
    below = np.zeros(len(times))
    drawn = []
    for place, (name, _, look) in enumerate(named):
        colour = _colour(look.colour, _PALETTE[place % len(_PALETTE)])
        values = grids[name]
        if look.fills_to in grids:
            plot.fill_between(times, grids[look.fills_to], values, color=colour, alpha=0.18, lw=0)
        if look.is_bare:
            continue
        if panel.is_stacked:
            values = below + np.nan_to_num(values)
            plot.fill_between(times, below, values, color=colour, alpha=0.35, lw=0)
            below = values
        style = (0, (6, 4)) if look.dashed else "-"
        plot.plot(times, values, color=colour, lw=1.4, ls=style, solid_capstyle="round")
        drawn.append((name, colour))
    _style(plot, panel, data)
    _write_legend(axes, drawn)


def _plot_space(axes: Axes) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height as shares of the panel."""
    width_in, height_in = axes.get_xlim()[1], axes.get_ylim()[0]
    left, right, below, above = 0.85, 0.3, 0.62, _TITLE_IN + 0.1
    return (
        left / width_in,
        below / height_in,
        1 - (left + right) / width_in,
        1 - (below + above) / height_in,
    )


def _grid_times(data: PanelData) -> Floats:
    return np.arange(data.start_s, data.end_s + data.step_s / 2, data.step_s)


def _on_grid(series: Series, data: PanelData) -> Floats:
    """Return values float[T] on the common time axis; NaN where there are none."""
    values = np.full(len(_grid_times(data)), math.nan)
    places = np.rint((np.array(series.times_s) - data.start_s) / data.step_s).astype(int)
    values[places] = series.values
    return values


def _style(plot: Axes, panel: PanelView, data: PanelData) -> None:
    look = panel.look
    plot.set_xlim(data.start_s, data.end_s)
    low, high = plot.get_ylim()
    plot.set_ylim(
        low if panel.lowest is None else panel.lowest,
        (high if _is_above(plot, 0.0) else 1.0) if panel.highest is None else panel.highest,
    )
    plot.patch.set_alpha(0)
    moments = list(_moments(data))
    plot.set_xticks(moments, [_clock(moment) for moment in moments])
    plot.yaxis.set_major_locator(_levels(plot, look.unit))
    plot.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, look.unit)))
    plot.grid(color=_GRID, linewidth=0.7)
    plot.tick_params(colors=GREY, labelsize=8, length=0)
    for spine in plot.spines.values():
        spine.set_visible(False)
    plot.vlines(
        data.marks_s, 0, 0.035, transform=plot.get_xaxis_transform(), color=_NAMED["purple"], lw=1
    )


def _levels(plot: Axes, unit: str) -> MaxNLocator | MultipleLocator:
    """Return where the lines of the grid are: at round numbers of the unit."""
    if unit != "bytes":
        return MaxNLocator(5)
    return MultipleLocator(2.0 ** math.ceil(math.log2(plot.get_ylim()[1] / 5)))


def _is_above(plot: Axes, level: float) -> bool:
    return any(np.nanmax(line.get_ydata(), initial=level) > level for line in plot.lines)


def _moments(data: PanelData) -> Iterator[float]:
    """Yield round moments, at most eight."""
    span_s = data.end_s - data.start_s
    step_s = next((step for step in _TICKS_S if span_s / step <= 8), _TICKS_S[-1])
    moment = math.ceil(data.start_s / step_s) * step_s
    while moment <= data.end_s:
        yield moment
        moment += step_s


def _clock(moment_s: float) -> str:
    return datetime.datetime.fromtimestamp(moment_s, datetime.UTC).strftime("%H:%M")


def _write_legend(axes: Axes, drawn: Sequence[tuple[str, str]]) -> None:
    width_in, height_in = axes.get_xlim()[1], axes.get_ylim()[0]
    x, y = 0.3, height_in - 0.2
    for place, (name, colour) in enumerate(drawn):
        left = len(drawn) - place
        room_in = 0.25 + 0.068 * len(name)
        if x + room_in > width_in - 0.1 or place == _FEW:
            axes.text(x, y, f"and {left} more", fontsize=8, color=GREY, va="center")
            return
        axes.plot([x, x + 0.16], [y, y], color=colour, lw=2.5, solid_capstyle="butt")
        axes.text(x + 0.22, y, name, fontsize=8, color=INK, va="center")
        x += room_in + 0.2


def _draw_table(axes: Axes, data: PanelData) -> None:
    headings = data.panel.headings
    if any("#" in column for column in headings):
        rows, columns = _robot_rows(data), list(headings.values())
    else:
        rows, columns = _label_rows(data), list(headings.values())
    width_in, height_in = axes.get_xlim()[1], axes.get_ylim()[0]
    pitch_in, column_in = 0.3, (width_in - 0.3) / len(columns)
    fitting = int((height_in - _TITLE_IN - 0.45) / pitch_in)
    for place, heading in enumerate(columns):
        x = 0.16 + place * column_in
        axes.text(x, _TITLE_IN + 0.2, heading, fontsize=8.5, color=_NAMED["blue"], va="center")
    for row_place, row in enumerate(rows[:fitting]):
        y = _TITLE_IN + 0.5 + row_place * pitch_in
        axes.plot([0.1, width_in - 0.1], [y - 0.15] * 2, color=_GRID, lw=0.7)
        for place, heading in enumerate(columns):
            x = 0.16 + place * column_in
            _draw_cell(axes, (x, y, column_in), row.get(heading), data.panel.look_of(heading))


def _draw_cell(
    axes: Axes, place: tuple[float, float, float], cell: Series | str | None, look: Look
) -> None:
    x, y, width_in = place
    if isinstance(cell, str):
        colour = {"critical": _NAMED["red"], "warning": _NAMED["yellow"]}.get(cell, INK)
        axes.text(x, y, cell, fontsize=8.5, color=colour, va="center")
    elif cell is not None and len(cell.values) == 1:
        text = written(cell.last, look.unit, look.decimals)
        colour = _colour(look.colour_of(cell.last))
        axes.text(x, y, text, fontsize=8.5, color=colour, va="center")
    elif cell is not None:
        values, times = np.array(cell.values), np.array(cell.times_s)
        across = x + (times - times[0]) / (times[-1] - times[0]) * (width_in - 0.15)
        axes.plot(across, y + 0.11 - 0.22 * values, color=_NAMED["blue"], lw=1.1)


def _robot_rows(data: PanelData) -> list[dict[str, Series | str]]:
    """Return a row for each robot: its cells by their headings."""
    headings = data.panel.headings
    rows: dict[str, dict[str, Series | str]] = {}
    for target, many in data.found:
        column = f"{'Value' if target.is_instant else 'Trend'} #{target.ref}"
        for one in many:
            name = one.labels["robot"]
            rows.setdefault(name, {headings["robot"]: name})[headings[column]] = one
    return [rows[name] for name in sorted(rows)]


def _label_rows(data: PanelData) -> list[dict[str, Series | str]]:
    headings = data.panel.headings
    return [
        {heading: one.labels.get(label, "") for label, heading in headings.items()}
        for _, one in data.named()
    ]


_DRAWERS = {
    "row": _draw_row,
    "stat": _draw_number,
    "bargauge": _draw_bars,
    "timeseries": _draw_lines,
    "table": _draw_table,
}
