"""Reads generated dashboards back, as far as drawing them needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_VARIABLE = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One query of a panel."""

    ref: str
    expr: str
    """With the dashboard's variables in it."""
    legend: str
    is_instant: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How values are shown: a panel's, or one series' or column's of it."""

    unit: str = "none"
    decimals: int | None = None
    colour: str | None = None
    dashed: bool = False
    """A line to compare with."""
    fills_to: str | None = None
    """The series down to which this one is filled; neither of the two is drawn as a line."""
    is_bare: bool = False
    steps: tuple[tuple[float, str], ...] = ()
    """Colours by the values from which on they hold."""

    def colour_of(self, value: float) -> str | None:
        """Return the colour of a value; None where there are no steps."""
        reached = [colour for start, colour in self.steps if value >= start]
        return reached[-1] if reached else None


@dataclass(frozen=True, kw_only=True, slots=True)
class PanelView:
    """One panel."""

    kind: str
    title: str
    x: int
    """Columns of 24."""
    y: int
    width: int
    height: int
    targets: tuple[Target, ...]
    look: Look
    lowest: float | None
    highest: float | None
    is_stacked: bool
    no_value: str
    looks: Mapping[str, Look]
    """By the names of series, or the headings of columns."""
    headings: Mapping[str, str]
    """Of a table's columns, by what Prometheus calls them: a label, or "Value #A" for a query."""

    def look_of(self, name: str) -> Look:
        """Return how a series or a column is shown."""
        return self.looks.get(name, self.look)


@dataclass(frozen=True, kw_only=True, slots=True)
class DashboardView:
    """One dashboard."""

    title: str
    panels: tuple[PanelView, ...]
    annotations: tuple[Target, ...]
    variables: Mapping[str, str]
    """What they are set to when nobody chose; "" where Grafana asks Prometheus."""


def read_dashboard(path: Path) -> DashboardView:
    """Read a generated file."""
    board = json.loads(path.read_text(encoding="utf-8"))
    return DashboardView(
        title=board["title"],
        panels=tuple(_panel(one) for one in _panels(board["panels"])),
        annotations=tuple(
            Target(ref="", expr=one["expr"], legend=one["name"], is_instant=False)
            for one in board["annotations"].get("list", [])
            if one.get("expr")
        ),
        variables={
            one["name"]: str(one.get("current", {}).get("value", ""))
            for one in board["templating"].get("list", [])
        },
    )


def filled_in(expr: str, variables: Mapping[str, str]) -> str:
    """Return ``expr`` with values instead of variables.

    Raises:
        KeyError: a variable has no value.
    """
    return _VARIABLE.sub(lambda found: variables[found[1] or found[2]], expr)


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from panel.get("panels", [])


def _panel(panel: dict[str, Any]) -> PanelView:
    field_config = panel.get("fieldConfig", {})
    defaults = field_config.get("defaults", {})
    place = panel["gridPos"]
    look = _look(defaults, defaults.get("custom", {}))
    return PanelView(
        kind=panel["type"],
        title=panel.get("title", ""),
        x=place["x"],
        y=place["y"],
        width=place["w"],
        height=place["h"],
        targets=tuple(_target(one) for one in panel.get("targets", [])),
        look=look,
        lowest=defaults.get("min"),
        highest=defaults.get("max"),
        is_stacked=defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
        no_value=defaults.get("noValue", "No data"),
        looks={
            one["matcher"]["options"]: _overridden(defaults, one["properties"])
            for one in field_config.get("overrides", [])
            if one["matcher"]["id"] == "byName"
        },
        headings=_headings(panel.get("transformations", [])),
    )


def _target(target: dict[str, Any]) -> Target:
    return Target(
        ref=target["refId"],
        expr=target["expr"],
        legend=target.get("legendFormat", ""),
        is_instant=bool(target.get("instant")),
    )


def _overridden(defaults: dict[str, Any], properties: list[dict[str, Any]]) -> Look:
    said = {one["id"]: one["value"] for one in properties}
    plain = {key: value for key, value in said.items() if not key.startswith("custom.")}
    custom = {
        key.removeprefix("custom."): value
        for key, value in said.items()
        if key.startswith("custom.")
    }
    return _look(defaults | plain, custom)


def _look(field: dict[str, Any], custom: dict[str, Any]) -> Look:
    steps = field.get("thresholds", {}).get("steps", [])
    return Look(
        unit=field.get("unit", "none"),
        decimals=field.get("decimals"),
        colour=field.get("color", {}).get("fixedColor"),
        dashed=custom.get("lineStyle", {}).get("fill") == "dash",
        fills_to=custom.get("fillBelowTo"),
        is_bare=custom.get("lineWidth") == 0,
        steps=tuple((_start(step), step["color"]) for step in steps),
    )


def _start(step: dict[str, Any]) -> float:
    value = step.get("value")
    return float("-inf") if value is None else float(value)


def _headings(transformations: list[dict[str, Any]]) -> dict[str, str]:
    for one in transformations:
        names, places = (one["options"].get(key, {}) for key in ("renameByName", "indexByName"))
        if names:
            return {name: names[name] for name in sorted(names, key=lambda name: places[name])}
    return {}
