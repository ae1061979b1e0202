"""A whole dashboard as one picture: its own panels, queries and units, asked of a Prometheus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from fleet.dashboards.drawing import GREY, INK, PanelData, draw
from fleet.dashboards.prometheus import Prometheus, Series
from fleet.dashboards.reading import (
    DashboardView,
    PanelView,
    Target,
    filled_in,
    read_dashboard,
)
from fleet.words import utc_text
from protocol.errors import ConfigurationError

_COLUMN_IN, _ROW_IN = 0.62, 0.36
_COLUMNS = 24
_HEAD_ROWS = 2.2
_POINTS = 300
_SCRAPE_S, _MINUTE_S = 15.0, 60.0
_BETWEEN_IN = 0.05
_ROBOT = "robot"
_WEAKEST = (
    'bottomk(1, robot:success:ratio{window="1h", policy="all"})'
    " or topk(1, graspfleet_robot_connected)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What of a Prometheus is shown."""

    prometheus: Prometheus
    start_s: float
    """UTC."""
    end_s: float
    variables: Mapping[str, str]
    """Chosen otherwise than the dashboards do."""
    robot: str
    """"" for the one with the lowest success."""

    @property
    def step_s(self) -> float:
        """The distance of points on the axis; never less than that of scrapes."""
        return max((self.end_s - self.start_s) / _POINTS, _SCRAPE_S)


def draw_dashboard(path: Path, shown: Shown, picture: Path) -> None:
    """Write a PNG of the dashboard in ``path``.

    Raises:
        RefusedQueryError: Prometheus does not understand a query.
        TransientError: Prometheus does not answer.
        ConfigurationError: Prometheus knows no robot to show.
    """
    view = read_dashboard(path)
    variables = _variables(view, shown)
    rows = _HEAD_ROWS + max(panel.y + panel.height for panel in view.panels)
    size = (_COLUMNS * _COLUMN_IN, rows * _ROW_IN)
    figure = Figure(figsize=size, dpi=110, facecolor="#f4f5f5")
    _write_head(figure, view, variables, shown, rows)
    marks = _marks(view, variables, shown)
    for panel in view.panels:
        data = PanelData(
            panel=panel,
            found=[(target, _ask(target, variables, shown)) for target in panel.targets],
            start_s=shown.start_s,
            end_s=shown.end_s,
            step_s=shown.step_s,
            marks_s=marks,
        )
        draw(_place(figure, panel, rows), data)
    figure.savefig(picture)


def _variables(view: DashboardView, shown: Shown) -> dict[str, str]:
    duration_s = shown.end_s - shown.start_s
    found = {
        **view.variables,
        "__interval": f"{shown.step_s:.0f}s",
        "__rate_interval": f"{max(shown.step_s + _SCRAPE_S, 4 * _SCRAPE_S):.0f}s",
        "__range": f"{duration_s:.0f}s",
        **shown.variables,
    }
    if _ROBOT in found:
        found[_ROBOT] = shown.robot or _weakest(shown)
    return found


def _weakest(shown: Shown) -> str:
    found = shown.prometheus.latest(_WEAKEST, shown.end_s)
    if not found:
        raise ConfigurationError(f"Prometheus knows no robot at {utc_text(int(shown.end_s * 1e9))}")
    return found[0].labels[_ROBOT]


def _ask(target: Target, variables: Mapping[str, str], shown: Shown) -> list[Series]:
    expr = filled_in(target.expr, variables)
    if target.is_instant:
        return shown.prometheus.latest(expr, shown.end_s)
    return shown.prometheus.over(expr, shown.start_s, shown.end_s, shown.step_s)


def _marks(view: DashboardView, variables: Mapping[str, str], shown: Shown) -> list[float]:
    """Return the moments of all events; Grafana too asks once a minute for them."""
    start_s = math.ceil(shown.start_s / _MINUTE_S) * _MINUTE_S
    found = [
        shown.prometheus.over(filled_in(one.expr, variables), start_s, shown.end_s, _MINUTE_S)
        for one in view.annotations
    ]
    return sorted({time_s for many in found for one in many for time_s in one.times_s})


def _write_head(
    figure: Figure,
    view: DashboardView,
    variables: Mapping[str, str],
    shown: Shown,
    rows: float,
) -> None:
    chosen = [
        f"{name}: {variables[name]}" for name in view.variables if name not in ("datasource",)
    ]
    span = f"{utc_text(int(shown.start_s * 1e9))} to {utc_text(int(shown.end_s * 1e9))[11:]} UTC"
    top = 1 - 0.75 / rows
    figure.text(0.008, top, view.title, fontsize=17, fontweight="bold", color=INK, va="center")
    figure.text(
        0.992, top, "     ".join([*chosen, span]), fontsize=10, color=GREY, ha="right", va="center"
    )


def _place(figure: Figure, panel: PanelView, rows: float) -> Axes:
    """Return axes over the whole of a panel, in inches from its upper left corner."""
    width_in, height_in = panel.width * _COLUMN_IN, panel.height * _ROW_IN
    bottom = rows - _HEAD_ROWS - panel.y - panel.height + 0.7
    axes = figure.add_axes(
        (panel.x / _COLUMNS, bottom / rows, panel.width / _COLUMNS, panel.height / rows)
    )
    axes.set(xlim=(0, width_in), ylim=(height_in, 0))
    axes.axis("off")
    if panel.kind != "row":
        axes.add_patch(
            FancyBboxPatch(
                (_BETWEEN_IN, _BETWEEN_IN),
                width_in - 2 * _BETWEEN_IN,
                height_in - 2 * _BETWEEN_IN,
                boxstyle="round,pad=0,rounding_size=0.03",
                facecolor="white",
                edgecolor="#d8dadd",
                linewidth=0.8,
            )
        )
    return axes
