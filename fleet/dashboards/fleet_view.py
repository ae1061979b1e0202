"""The Fleet dashboard: is the fleet well, and which robot is not."""

from __future__ import annotations

from grafana_foundation_sdk.builders import bargauge, stat, table, timeseries
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import FieldColorModeId

from fleet.dashboards.board import (
    FLEET,
    OF_WINDOW,
    board,
    policy_variable,
    release_annotation,
    window_variable,
)
from fleet.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    NONE_IS_BEST,
    ORANGE,
    RED,
    SOURCE,
    SUCCESS,
    UP,
    YELLOW,
    band,
    coloured,
    dashed,
    latest,
    lines,
    number,
    query,
    runbook,
    share,
    thresholds,
)
from fleet.dashboards.tables import Column, alert_table, robot_table

_MINUTELY = "60 * sum by (outcome) (rate(graspfleet_robot_attempts_total[$__rate_interval]))"


def fleet_view() -> builders.Dashboard:
    """Return the dashboard that a lab leaves open on a wall."""
    view = board(
        "Fleet", FLEET, "Is the fleet well, which robot is not, and what is there to do about it."
    )
    view.with_variable(window_variable()).with_variable(policy_variable())
    view.annotation(release_annotation())
    for one in _numbers():
        view.with_panel(one)
    view.with_panel(_success()).with_panel(alert_table().span(10).height(9))
    view.with_panel(_robots())
    view.with_panel(_success_by_robot()).with_panel(_worst())
    view.with_row(builders.Row("Attempts and releases"))
    for panel in (_attempts(), _releases(), _calibration()):
        view.with_panel(panel.span(8))
    for panel in (_spools(), _tasks()):
        view.with_panel(panel.span(12))
    return view


def _numbers() -> list[stat.Panel]:
    return [
        number(
            "Robots connected",
            "Of those enrolled, the share that was heard within five seconds.",
            latest("sum(graspfleet_robots_connected) / max(graspfleet_robots_enrolled)"),
            unit="percentunit",
            steps=((None, RED), (0.5, YELLOW), (0.9, GREEN)),
        ).links([runbook("fleet-disconnected")]),
        number(
            "Success",
            "Of the fleet over the chosen window. It is low while the fleet is young.",
            latest(f"fleet:success:ratio{OF_WINDOW}"),
            unit="percentunit",
            steps=SUCCESS,
        ).links([runbook("fleet-success-dropped")]),
        number(
            "Attempts",
            "In the chosen window; aborted ones do not count.",
            latest(f"fleet:attempts:increase{OF_WINDOW}"),
            unit="short",
        ),
        number(
            "On the newest release",
            "Share of the connected robots that use a release made at most ten minutes before the "
            "newest one, or that an operator pinned.",
            latest(
                "count((scalar(max(graspfleet_release_created_timestamp_seconds))"
                " - max by (robot) (graspfleet_robot_release_created_timestamp_seconds) <= 600"
                " or max by (robot) (graspfleet_robot_release_pinned == 1))"
                " and on (robot) graspfleet_robot_connected == 1)"
                " / sum(graspfleet_robots_connected)"
            ),
            unit="percentunit",
            steps=((None, RED), (0.5, YELLOW), (0.9, GREEN)),
        ).links([runbook("robot-release-not-taken")]),
        number(
            "Missing episodes",
            "Of the robots shown here: later ones came, these neither came nor were given up.",
            latest("sum(max by (robot) (graspfleet_robot_missing_episodes))"),
            steps=NONE_IS_BEST,
        ).links([runbook("robot-sequences-missing")]),
        number(
            "Alerts",
            "That fire now.",
            latest('count(ALERTS{alertstate="firing"}) or vector(0)'),
            steps=NONE_IS_BEST,
        ),
    ]


def _success() -> timeseries.Panel:
    panel = share(
        "Success of the fleet",
        "Share of successes over the chosen window with its 95 % interval (Wilson). Marks on the "
        "axis are releases. Dashed: all attempts, exploring ones too.",
        query(f"fleet:success_low:ratio{OF_WINDOW}", "lower end"),
        query(f"fleet:success_high:ratio{OF_WINDOW}", "upper end"),
        query(f"fleet:success:ratio{OF_WINDOW}", "success"),
        query('fleet:success:ratio{window="$window", policy="all"}', "all attempts"),
    )
    band(panel, "lower end", "upper end", BLUE)
    coloured(panel, success=BLUE)
    dashed(panel, "all attempts")
    return panel.span(14).height(9).links([runbook("fleet-success-dropped")])


def _worst() -> bargauge.Panel:
    return (
        bargauge.Panel()
        .title("Worst robots")
        .description(
            "By the upper end of their 95 % intervals, so that a robot with few attempts is not "
            "blamed for bad luck."
        )
        .datasource(SOURCE)
        .unit("percentunit")
        .decimals(0)
        .min(0)
        .max(1)
        .span(8)
        .height(9)
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .thresholds(thresholds(SUCCESS))
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .links([runbook("robot-below-fleet")])
        .with_target(
            latest(
                f"sort(bottomk(8, robot:success_high:ratio{OF_WINDOW}"
                " and on (robot) graspfleet_robot_connected))",
                "{{robot}}",
            ).ref_id("A")
        )
    )


def _robots() -> table.Panel:
    panel = robot_table(
        "Robots",
        "A row for each robot that was heard within a day. A name leads to its own dashboard.",
        Column(
            heading="Connected",
            target=latest("max by (robot) (graspfleet_robot_connected)"),
            unit="bool_yes_no",
            steps=UP,
        ),
        *_success_columns(),
        *_state_columns(),
    )
    return panel.span(24).height(10)


def _success_columns() -> list[Column]:
    def of_robots(series: str) -> str:
        # Those that are there at the end of what is shown: who left has no row.
        present = "and on (robot) graspfleet_robot_connected @ end()"
        return f"max by (robot) ({series}{OF_WINDOW} {present})"

    percent = "percentunit"
    rate = of_robots("robot:success:ratio")
    low, high = of_robots("robot:success_low:ratio"), of_robots("robot:success_high:ratio")
    return [
        Column(heading="Success over time", target=query(rate), unit=percent),
        Column(heading="Success", target=latest(rate), unit=percent, steps=SUCCESS),
        Column(heading="at least", target=latest(low), unit=percent),
        Column(heading="at most", target=latest(high), unit=percent),
        Column(
            heading="Attempts",
            target=latest(of_robots("robot:attempts:increase")),
            unit="short",
        ),
    ]


def _state_columns() -> list[Column]:
    drift = '{__name__=~"graspfleet_robot_drift_(success|calibration)_evidence"}'
    silent = "time() - max by (robot) (graspfleet_robot_last_seen_timestamp_seconds) > 5"
    return [
        Column(
            heading="Release", target=latest("max by (robot) (graspfleet_robot_release_version)")
        ),
        Column(
            heading="In its spool",
            target=latest("max by (robot) (graspfleet_robot_outbox_episodes)"),
            unit="short",
            steps=((None, GREEN), (100, YELLOW), (1000, RED)),
        ),
        Column(
            heading="Missing",
            target=latest("max by (robot) (graspfleet_robot_missing_episodes)"),
            steps=NONE_IS_BEST,
        ),
        Column(
            heading="Drift",
            target=latest(f"max by (robot) ({drift})"),
            unit="percentunit",
            steps=((None, GREEN), (0.7, YELLOW), (1, RED)),
        ),
        Column(
            heading="Warnings",
            target=latest("max by (robot) (graspfleet_robot_warnings)"),
            steps=((None, GREEN), (1, YELLOW)),
        ),
        Column(
            heading="Silent for",
            target=latest(silent),
            unit="s",
            steps=((None, GREEN), (60, RED)),
        ),
    ]


def _attempts() -> timeseries.Panel:
    panel = lines(
        "Attempts per minute",
        "Of the whole fleet, by how they ended.",
        query(_MINUTELY, "{{outcome}}"),
        unit="short",
    )
    panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    return coloured(panel.fill_opacity(35), success=GREEN, failure=ORANGE, aborted=RED)


def _success_by_robot() -> timeseries.Panel:
    panel = share(
        "Success of each robot",
        "Over the chosen window. A line that leaves the others is a robot to look at.",
        query(
            f"robot:success:ratio{OF_WINDOW} and on (robot) graspfleet_robot_connected", "{{robot}}"
        ),
    )
    return (
        panel.span(16)
        .height(9)
        .links([runbook("robot-below-fleet"), runbook("robot-success-dropped")])
    )


def _calibration() -> timeseries.Panel:
    panel = share(
        "Predicted and realised success",
        "Over an hour: what the network predicted for closing where robots closed, and what came "
        "of it with its 95 % interval. Apart, the close rule works with wrong numbers.",
        query("fleet:realised_success_low:ratio", "lower end"),
        query("fleet:realised_success_high:ratio", "upper end"),
        query("fleet:realised_success:ratio", "realised"),
        query("fleet:predicted_success:ratio", "predicted"),
    )
    band(panel, "lower end", "upper end", BLUE)
    coloured(panel, realised=BLUE, predicted=ORANGE)
    return panel.links([runbook("fleet-calibration-off")])


def _releases() -> timeseries.Panel:
    panel = lines(
        "Releases in use",
        "The newest release, and the oldest and median one that connected robots use.",
        query("max(graspfleet_release_version)", "newest"),
        query(
            "quantile(0.5, max by (robot) (graspfleet_robot_release_version"
            " and on (robot, instance) graspfleet_robot_connected == 1))",
            "median robot",
        ),
        query(
            "min(max by (robot) (graspfleet_robot_release_version"
            " and on (robot, instance) graspfleet_robot_connected == 1))",
            "last robot",
        ),
        unit="none",
        decimals=0,
    )
    dashed(panel, "newest")
    return panel.links([runbook("robot-release-not-taken")])


def _tasks() -> timeseries.Panel:
    return share(
        "Success by task",
        "Over an hour, every attempt.",
        query(
            'sum by (task) (increase(graspfleet_task_attempts_total{outcome="success"}[1h]))'
            " / (sum by (task) "
            '(increase(graspfleet_task_attempts_total{outcome=~"success|failure"}[1h])) > 0)',
            "{{task}}",
        ),
    )


def _spools() -> timeseries.Panel:
    panel = lines(
        "Episodes in robots' spools",
        "Attempts that are on robots' disks and not in the store. All of them rising: the learner "
        "or its network; one of them: that robot's.",
        query("sum(graspfleet_robot_outbox_episodes)", "all robots"),
        query("topk(3, graspfleet_robot_outbox_episodes)", "{{robot}}"),
        unit="short",
    )
    return coloured(panel, **{"all robots": GREY}).links([runbook("robot-spool-filling")])
