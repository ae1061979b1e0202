"""How every panel looks: one data source, few colours, a unit and a description on each."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
"""Whichever Prometheus the dashboard's variable names; the provisioned one unless chosen."""

GREEN, YELLOW, RED, BLUE, ORANGE, PURPLE = "green", "yellow", "red", "blue", "orange", "purple"
GREY = "#8e98a3"
Steps = Sequence[tuple[float | None, str]]
"""From this value on, this colour; None for the lowest."""
NONE_IS_BEST: Steps = ((None, GREEN), (1, RED))
SUCCESS: Steps = ((None, RED), (0.5, YELLOW), (0.8, GREEN))
UP: Steps = ((None, RED), (1, GREEN))
PLAIN: Steps = ((None, BLUE),)


def query(expr: str, legend: str = "__auto") -> Dataquery:
    """Return a query over the dashboard's range, a line for each series."""
    return Dataquery().expr(expr).legend_format(legend).range().datasource(SOURCE)


def latest(expr: str, legend: str = "__auto") -> Dataquery:
    """Return a query for the value now."""
    return Dataquery().expr(expr).legend_format(legend).instant().datasource(SOURCE)


def lines(
    title: str, description: str, *targets: Dataquery, unit: str, decimals: int | None = None
) -> timeseries.Panel:
    """Return a panel of lines over time, a quarter of a screen wide, its axis from zero."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(6)
        .height(7)
        .line_width(1.5)
        .fill_opacity(0)
        .show_points(common.VisibilityMode.NEVER)
        # A robot that left leaves a gap, not a line to where it came back.
        .span_nulls(False)
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .legend(
            common_builders.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
    )
    if decimals is not None:
        panel.decimals(decimals)
    for ref, target in zip("ABCDEFGHIJ", targets, strict=False):
        panel.with_target(target.ref_id(ref))
    return panel


def share(title: str, description: str, *targets: Dataquery) -> timeseries.Panel:
    """Return lines between nothing and all."""
    return lines(title, description, *targets, unit="percentunit", decimals=0).max(1)


def band(panel: timeseries.Panel, low: str, high: str, colour: str) -> timeseries.Panel:
    """Fill between two series of ``panel``, which get no lines of their own."""
    edge = [
        _custom("lineWidth", 0),
        fixed_colour(colour),
        _custom("hideFrom", {"legend": True, "tooltip": False, "viz": False}),
    ]
    filled = [_custom("fillBelowTo", low), _custom("fillOpacity", 18)]
    return panel.override_by_name(low, edge).override_by_name(high, edge + filled)


def coloured(panel: timeseries.Panel, **colours: str) -> timeseries.Panel:
    """Give series of ``panel`` colours of their own, by their legends."""
    for series, colour in colours.items():
        panel.override_by_name(series, [fixed_colour(colour)])
    return panel


def dashed(panel: timeseries.Panel, series: str, colour: str = GREY) -> timeseries.Panel:
    """Draw a series as what others are compared with."""
    style = {"fill": "dash", "dash": [8, 6]}
    return panel.override_by_name(series, [fixed_colour(colour), _custom("lineStyle", style)])


def fixed_colour(colour: str) -> DynamicConfigValue:
    """Return the setting that gives a field one colour."""
    return DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})


def _custom(name: str, value: object) -> DynamicConfigValue:
    return DynamicConfigValue(id_val=f"custom.{name}", value=value)


def number(
    title: str,
    description: str,
    target: Dataquery,
    *,
    unit: str = "none",
    steps: Steps = PLAIN,
    decimals: int = 0,
) -> stat.Panel:
    """Return one large number, coloured by ``steps``."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .decimals(decimals)
        .span(4)
        .height(4)
        .thresholds(thresholds(steps))
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("-")
        .with_target(target.ref_id("A"))
    )


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    """Return absolute thresholds."""
    return (
        builders.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=colour) for value, colour in steps])
    )


def link(title: str, url: str) -> builders.DashboardLink:
    """Return a link that keeps the time that is looked at."""
    return (
        builders.DashboardLink(title)
        .type(DashboardLinkType.LINK)
        .url(url)
        .keep_time(True)
        .icon("external link")
    )


def runbook(page: str) -> builders.DashboardLink:
    """Return a link to the page of docs/runbooks that says what to do."""
    return link(f"What to do: {page.replace('-', ' ')}", f"/d/runbook-{page}")
