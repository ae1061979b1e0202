"""Tables with a row for each robot or alert."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import FieldTextAlignment
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    MatcherConfig,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from fleet.dashboards.panels import SOURCE, Steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column; a query over the range becomes a sparkline."""

    heading: str
    target: Dataquery
    """Its series have the label ``robot`` and no other."""
    unit: str = "none"
    decimals: int = 0
    steps: Steps = ()
    """Colours of the cells' text."""


def robot_table(title: str, description: str, *columns: Column) -> table.Panel:
    """Return a table with a row for each robot; its name leads to its own dashboard."""
    panel = _table(title, description)
    names = {"robot": "Robot"}
    timed = []
    for ref, column in zip("ABCDEFGHIJKLMNOP", columns, strict=False):
        is_sparkline = not column.target.build().instant
        shape = PromQueryFormat.TIME_SERIES if is_sparkline else PromQueryFormat.TABLE
        panel.with_target(column.target.ref_id(ref).format(shape))
        names[f"{'Trend' if is_sparkline else 'Value'} #{ref}"] = column.heading
        timed += [] if is_sparkline else [ref]
        panel.override_by_name(column.heading, _settings(column, is_sparkline=is_sparkline))
    # Without its time a table of one robot cannot be taken for a series of one point.
    instant = MatcherConfig(id_val="byRefId", options=f"/^(?:{'|'.join(timed)})$/")
    panel.override_by_name("Robot", [_link("Look at this robot", "graspfleet-robot", "robot")])
    return panel.transformations(
        [
            _step("organize", {"excludeByName": {"Time": True}}, instant),
            _step("timeSeriesTable", {}),
            _step("joinByField", {"byField": "robot", "mode": "outer"}),
            _step("organize", _in_order(names)),
        ]
    )


def alert_table() -> table.Panel:
    """Return the alerts that fire now; each leads to the page that says what to do."""
    firing = 'max by (alertname, robot, severity, runbook) (ALERTS{alertstate="firing"})'
    shown = {"alertname": "Alert", "robot": "Robot", "severity": "Severity", "runbook": "Runbook"}
    panel = (
        _table(
            "What wants looking at",
            "Alerts that fire now. The last column leads to the page that says what to do.",
        )
        .no_value("Nothing: all is well")
        .with_target(
            Dataquery()
            .expr(firing)
            .instant()
            .format(PromQueryFormat.TABLE)
            .ref_id("A")
            .datasource(SOURCE)
        )
    )
    panel.override_by_name("Robot", [_link("Look at this robot", "graspfleet-robot", "robot")])
    page = {"title": "What to do", "url": "/d/runbook-${__value.raw}"}
    panel.override_by_name("Runbook", [DynamicConfigValue(id_val="links", value=[page])])
    panel.override_by_name("Severity", [_coloured_text(), _severity_colours()])
    return panel.transformations(
        [
            _step("organize", {"excludeByName": {"Time": True, "Value": True}, **_in_order(shown)}),
        ]
    )


def _table(title: str, description: str) -> table.Panel:
    panel = table.Panel().title(title).description(description).datasource(SOURCE)
    return panel.align(FieldTextAlignment.AUTO)


def _settings(column: Column, *, is_sparkline: bool) -> list[DynamicConfigValue]:
    found = [
        DynamicConfigValue(id_val="unit", value=column.unit),
        DynamicConfigValue(id_val="decimals", value=column.decimals),
    ]
    if is_sparkline:
        options: dict[str, object] = {"type": "sparkline", "hideValue": True, "lineWidth": 1.5}
        return [*found, DynamicConfigValue(id_val="custom.cellOptions", value=options)]
    if column.steps:
        steps = [{"value": value, "color": colour} for value, colour in column.steps]
        colours = {"mode": "absolute", "steps": steps}
        found += [DynamicConfigValue(id_val="thresholds", value=colours), _coloured_text()]
    return found


def _coloured_text() -> DynamicConfigValue:
    return DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"})


def _severity_colours() -> DynamicConfigValue:
    colours = {"critical": {"color": "red", "index": 0}, "warning": {"color": "yellow", "index": 1}}
    return DynamicConfigValue(id_val="mappings", value=[{"type": "value", "options": colours}])


def _in_order(names: dict[str, str]) -> dict[str, object]:
    """Return settings that rename columns and put them in the order of ``names``."""
    order = {name: place for place, name in enumerate(names)}
    return {"renameByName": names, "indexByName": order}


def _link(title: str, uid: str, variable: str) -> DynamicConfigValue:
    url = f"/d/{uid}?var-{variable}=${{__value.raw}}&${{__url_time_range}}"
    return DynamicConfigValue(id_val="links", value=[{"title": title, "url": url}])


def _step(
    name: str, options: dict[str, object], only: MatcherConfig | None = None
) -> DataTransformerConfig:
    return DataTransformerConfig(id_val=name, options=options, filter_val=only)
