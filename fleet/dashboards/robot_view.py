"""The Robot dashboard: one robot in depth."""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.models import common

from fleet.dashboards.board import (
    ROBOT,
    board,
    policy_variable,
    release_annotation,
    robot_variable,
    window_variable,
)
from fleet.dashboards.panels import (
    BLUE,
    GREEN,
    NONE_IS_BEST,
    ORANGE,
    PURPLE,
    RED,
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
)

_THIS = '{robot="$robot"}'
_OF_WINDOW = '{robot="$robot", window="$window", policy="$policy"}'


def robot_view() -> builders.Dashboard:
    """Return the dashboard that a robot's name leads to."""
    view = board("Robot", ROBOT, "One robot in depth: how it grasps, delivers, and feels.")
    view.with_variable(robot_variable())
    view.with_variable(window_variable()).with_variable(policy_variable())
    view.annotation(release_annotation())
    for one in _numbers():
        view.with_panel(one)
    for title, panels in (
        ("Grasping", _grasping()),
        ("Deciding", _deciding()),
        ("Delivering", _delivering()),
        ("Health", _health()),
    ):
        view.with_row(builders.Row(title))
        for panel in panels:
            view.with_panel(panel)
    return view


def _numbers() -> Iterator[stat.Panel]:
    yield number(
        "Connected",
        "Whether the learner heard it within five seconds.",
        latest(f"max(graspfleet_robot_connected{_THIS})"),
        unit="bool_yes_no",
        steps=UP,
    ).links([runbook("robot-silent")])
    yield number(
        "Success",
        "Over the chosen window.",
        latest(f"robot:success:ratio{_OF_WINDOW}"),
        unit="percentunit",
        steps=SUCCESS,
    ).links([runbook("robot-success-dropped")])
    yield number(
        "Attempts",
        "In the chosen window; aborted ones do not count.",
        latest(f"robot:attempts:increase{_OF_WINDOW}"),
        unit="short",
    )
    yield number(
        "Behind the newest release",
        "How much older the release in use is.",
        latest(
            "scalar(max(graspfleet_release_created_timestamp_seconds))"
            f" - max(graspfleet_robot_release_created_timestamp_seconds{_THIS})"
        ),
        unit="s",
        steps=((None, GREEN), (600, YELLOW)),
    ).links([runbook("robot-release-not-taken")])
    yield number(
        "Camera and servos",
        "Whether both worked when they were last used.",
        latest(
            f'min({{__name__=~"graspfleet_robot_(camera|servos)_up", {_THIS[1:-1]}}}'
            f" and on (instance) graspfleet_robot_connected{_THIS} == 1)"
        ),
        unit="bool_yes_no",
        steps=UP,
    ).links([runbook("robot-camera-down"), runbook("robot-servos-down")])
    yield number(
        "Missing episodes",
        "Later ones came, these neither came nor were given up.",
        latest(f"max(graspfleet_robot_missing_episodes{_THIS})"),
        steps=NONE_IS_BEST,
    ).links([runbook("robot-sequences-missing")])


def _grasping() -> Iterator[timeseries.Panel]:
    success = share(
        "Success",
        "Over the chosen window with its 95 % interval (Wilson), beside all other robots. The "
        "whole band below the dashed line: this robot does worse than they do.",
        query(f"robot:success_low:ratio{_OF_WINDOW}", "lower end"),
        query(f"robot:success_high:ratio{_OF_WINDOW}", "upper end"),
        query(f"robot:success:ratio{_OF_WINDOW}", "success"),
        query(f"others:success:ratio{_OF_WINDOW}", "all others"),
    )
    band(success, "lower end", "upper end", BLUE)
    yield dashed(coloured(success, success=BLUE), "all others").links(
        [runbook("robot-below-fleet"), runbook("robot-success-dropped")]
    )
    calibration = share(
        "Predicted and realised success",
        "Over an hour: what the network predicted for closing where this robot closed, and what "
        "came of it with its 95 % interval.",
        query(f"robot:realised_success_low:ratio{_THIS}", "lower end"),
        query(f"robot:realised_success_high:ratio{_THIS}", "upper end"),
        query(f"robot:realised_success:ratio{_THIS}", "realised"),
        query(f"robot:predicted_success:ratio{_THIS}", "predicted"),
    )
    band(calibration, "lower end", "upper end", BLUE)
    yield coloured(calibration, realised=BLUE, predicted=ORANGE).links(
        [runbook("robot-calibration-off")]
    )
    attempts = lines(
        "Attempts per minute",
        "By how they ended.",
        query(
            "60 * sum by (outcome)"
            f" (rate(graspfleet_robot_attempts_total{_THIS}[$__rate_interval]))",
            "{{outcome}}",
        ),
        unit="short",
    )
    attempts.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    yield coloured(attempts.fill_opacity(35), success=GREEN, failure=ORANGE, aborted=RED)
    drift = lines(
        "Evidence of drift",
        "Of a test that looks at every attempt and compares the robot with its own past. At 100 % "
        "the alarm is raised.",
        query(f"max(graspfleet_robot_drift_success_evidence{_THIS})", "success"),
        query(f"max(graspfleet_robot_drift_calibration_evidence{_THIS})", "calibration"),
        query("vector(1)", "alarm"),
        unit="percentunit",
    )
    yield dashed(coloured(drift, success=BLUE, calibration=ORANGE), "alarm", RED).links(
        [runbook("robot-drifted")]
    )


def _deciding() -> Iterator[timeseries.Panel]:
    decision = lines(
        "Time of a decision",
        "Median and 99th percentile of the last 500 decisions.",
        query(f"max(graspfleet_robot_decision_median_seconds{_THIS})", "median"),
        query(f"max(graspfleet_robot_decision_p99_seconds{_THIS})", "99 %"),
        unit="s",
    )
    yield coloured(decision, median=BLUE)
    yield lines(
        "Servoing",
        "Steps per second in recent attempts: looking, deciding and moving.",
        query(f"max(graspfleet_robot_servo_rate_hertz{_THIS})", "steps per second"),
        unit="hertz",
    )
    release = lines(
        "Release in use",
        "Beside the newest one.",
        query("max(graspfleet_release_version)", "newest"),
        query(f"max(graspfleet_robot_release_version{_THIS})", "in use"),
        unit="none",
        decimals=0,
    )
    yield dashed(coloured(release, **{"in use": BLUE}), "newest").links(
        [runbook("robot-release-not-taken")]
    )
    yield share(
        "Labels that contradict each other",
        "Share of attempts in the chosen window whose gripper reading and drop test disagree. A "
        "worn gripper or a moved camera shows here first.",
        query(
            f"sum(increase(graspfleet_robot_label_disagreements_total{_THIS}[$window]))"
            f" / (sum(increase(graspfleet_robot_attempts_total{_THIS}[$window])) > 0)",
            "disagree",
        ),
    )


def _delivering() -> Iterator[timeseries.Panel]:
    yield lines(
        "Episodes in the spool",
        "Attempts that are on the robot's disk and not in the store.",
        query(f"max(graspfleet_robot_outbox_episodes{_THIS})", "episodes"),
        unit="short",
    ).links([runbook("robot-spool-filling")])
    yield lines(
        "The oldest of them has waited for",
        "Rising while the robot is connected: its episodes are not acked.",
        query(f"max(graspfleet_robot_outbox_oldest_seconds{_THIS})", "oldest"),
        unit="s",
    ).links([runbook("robot-spool-waiting")])
    yield lines(
        "Bytes",
        "What the robot sent, resent records too, and what was stored of it.",
        query(f"sum(rate(graspfleet_robot_sent_bytes_total{_THIS}[$__rate_interval]))", "sent"),
        query(
            f"sum(rate(graspfleet_robot_received_bytes_total{_THIS}[$__rate_interval]))", "stored"
        ),
        unit="Bps",
    )
    yield lines(
        "Reconnects and refused messages",
        "In five minutes. Reasons are those of the protocol.",
        query(f"sum(increase(graspfleet_robot_reconnects_total{_THIS}[5m]))", "reconnects"),
        query(
            f"sum by (reason) (increase(graspfleet_robot_refused_messages_total{_THIS}[5m])) > 0",
            "refused: {{reason}}",
        ),
        unit="short",
    ).links([runbook("robot-messages-refused")])


def _health() -> Iterator[timeseries.Panel]:
    faults = lines(
        "Faults",
        "Attempts that camera or servos ended, in five minutes; and safety stops, after which the "
        "robot stands until a person starts it.",
        query(f"sum(increase(graspfleet_robot_camera_faults_total{_THIS}[5m]))", "camera"),
        query(f"sum(increase(graspfleet_robot_servo_faults_total{_THIS}[5m]))", "servos"),
        query(f"max(graspfleet_robot_safety_stops_total{_THIS})", "safety stop"),
        unit="short",
    )
    yield coloured(faults, **{"safety stop": RED}, camera=PURPLE, servos=ORANGE).links(
        [runbook("robot-camera-down"), runbook("robot-servos-down"), runbook("robot-safety-stop")]
    )
    yield lines(
        "Camera shift",
        "How far the bin has moved in the picture since the hand-eye map was found.",
        query(f"max(graspfleet_robot_camera_shift_pixels{_THIS})", "shift"),
        unit="pixel",
        decimals=1,
    ).links([runbook("robot-camera-shifted")])
    yield (
        lines(
            "Gripper zero",
            "What the gripper reads when closed on nothing, less what it read at first.",
            query(f"max(graspfleet_robot_gripper_zero_drift_meters{_THIS})", "drift"),
            unit="lengthm",
        )
        .min(-0.005)
        .max(0.005)
        .links([runbook("robot-gripper-zero-drifted")])
    )
    yield lines(
        "Temperature",
        "Of the hottest part, where the hardware tells.",
        query(f"max(graspfleet_robot_temperature_celsius{_THIS})", "hottest"),
        unit="celsius",
    ).links([runbook("robot-hot")])
