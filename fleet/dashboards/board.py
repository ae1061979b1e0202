"""What all dashboards share: their data source, variables, links, and releases on the time axis."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    CustomVariable,
    Dashboard,
    DatasourceVariable,
    QueryVariable,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from fleet.dashboards.panels import SOURCE, link

SOURCE_UID = "graspfleet-prometheus"
"""Of the data source that deploy/grafana/provisioning makes."""
FLEET, ROBOT, LEARNER = "graspfleet-fleet", "graspfleet-robot", "graspfleet-learner"
"""Uids of the dashboards; bookmarks and alerts name them."""
OF_WINDOW = '{window="$window", policy="$policy"}'
"""Picks what the dashboard's variables say from success rates."""


def board(title: str, uid: str, description: str) -> Dashboard:
    """Return an empty dashboard."""
    return (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["graspfleet"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .with_variable(_source_variable())
        .link(link("Fleet", f"/d/{FLEET}"))
        .link(link("Robot", f"/d/{ROBOT}"))
        .link(link("Learner", f"/d/{LEARNER}"))
    )


def window_variable() -> CustomVariable:
    """Return over how much time success is counted."""
    return (
        CustomVariable("window")
        .label("Success over")
        .values("10m,1h,6h,1d")
        .current(VariableOption(selected=True, text="1h", value="1h"))
    )


def policy_variable() -> CustomVariable:
    """Return which attempts count."""
    return (
        CustomVariable("policy")
        .label("Attempts")
        .description("greedy: without exploration; all: every attempt")
        .values("greedy,all")
        .current(VariableOption(selected=True, text="greedy", value="greedy"))
    )


def robot_variable() -> QueryVariable:
    """Return which robot is looked at."""
    return (
        QueryVariable("robot")
        .label("Robot")
        .datasource(SOURCE)
        .query("label_values(graspfleet_robot_connected, robot)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
    )


def release_annotation() -> AnnotationQuery:
    """Return a mark for every release. Those of one step of the axis share one."""
    return (
        AnnotationQuery()
        .name("Releases")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("purple")
        .expr("max(changes(graspfleet_release_version[1m])) > 0")
    )


def _source_variable() -> DatasourceVariable:
    return (
        DatasourceVariable("datasource")
        .label("Prometheus")
        .type("prometheus")
        .current(VariableOption(selected=True, text="Prometheus", value=SOURCE_UID))
    )
