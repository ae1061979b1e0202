"""The Learner dashboard: the data path, training, releases."""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.builders import bargauge, stat, timeseries
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import FieldColorModeId

from fleet.dashboards.board import LEARNER, board, release_annotation
from fleet.dashboards.panels import (
    BLUE,
    GREEN,
    NONE_IS_BEST,
    ORANGE,
    PLAIN,
    RED,
    SOURCE,
    UP,
    YELLOW,
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

_BUCKETS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0")


def learner_view() -> builders.Dashboard:
    """Return the dashboard of everything that is not a robot."""
    view = board("Learner", LEARNER, "Whether episodes come in, are learnt from, and go out again.")
    view.annotation(release_annotation())
    for one in _numbers():
        view.with_panel(one)
    for title, panels in (
        ("Data path", (*_ingestion(), *_store())),
        ("Training", (*_steps(), *_quality(), *_replay())),
        ("Releases", _releases()),
        ("Process", _process()),
    ):
        view.with_row(builders.Row(title))
        for panel in panels:
            view.with_panel(panel)
    return view


def _numbers() -> Iterator[stat.Panel]:
    yield number(
        "Learner",
        "Whether Prometheus reaches it.",
        latest('min(up{job="graspfleet-learner"})'),
        unit="bool_yes_no",
        steps=UP,
    ).links([runbook("learner-down")])
    yield number(
        "Trainer heard",
        "How long ago the trainer last reported to the gateway.",
        latest("time() - max(graspfleet_training_last_report_timestamp_seconds)"),
        unit="s",
        steps=((None, GREEN), (60, RED)),
    ).links([runbook("trainer-silent")])
    yield number(
        "Newest release",
        "How old it is.",
        latest("time() - max(graspfleet_release_created_timestamp_seconds)"),
        unit="s",
    )
    yield number(
        "Store",
        "How much of what it may take up it does.",
        latest("max(graspfleet_store_size_bytes / graspfleet_store_limit_bytes)"),
        unit="percentunit",
        steps=((None, GREEN), (0.9, YELLOW), (0.95, RED)),
    ).links([runbook("store-filling")])
    yield number(
        "Free on its disk",
        "Whatever else lies there.",
        latest("min(graspfleet_store_disk_free_bytes / graspfleet_store_disk_size_bytes)"),
        unit="percentunit",
        steps=((None, RED), (0.05, YELLOW), (0.3, GREEN)),
    ).links([runbook("disk-filling")])
    yield number(
        "Damaged",
        "Whether a part of the store cannot be read.",
        latest("max(graspfleet_store_damaged)"),
        unit="bool_yes_no",
        steps=NONE_IS_BEST,
    ).links([runbook("store-damaged")])


def _ingestion() -> Iterator[timeseries.Panel]:
    episodes = lines(
        "Episodes",
        "Admitted and acked per second; acks follow the commit.",
        query("sum(rate(graspfleet_received_episodes_total[$__rate_interval]))", "admitted"),
        query("sum(rate(graspfleet_acked_episodes_total[$__rate_interval]))", "acked"),
        unit="short",
    )
    yield dashed(coloured(episodes, acked=BLUE), "admitted")
    yield lines(
        "Bytes",
        "Of admitted records.",
        query("sum(rate(graspfleet_received_bytes_total[$__rate_interval]))", "admitted"),
        unit="Bps",
    )
    yield lines(
        "Time of a commit",
        "A group of episodes to the disk. Slow: the disk.",
        query(_quantile("0.5", "graspfleet_commit_seconds"), "median"),
        query(_quantile("0.99", "graspfleet_commit_seconds"), "99 %"),
        unit="s",
    ).links([runbook("ingestion-behind")])
    yield share(
        "Queue to the disk",
        "Admitted and not yet committed, as a share of what may be. Full: the gateway reads no "
        "more until the disk follows, and robots spool.",
        query("max(graspfleet_commit_queue_bytes / graspfleet_commit_queue_limit_bytes)", "queue"),
    ).links([runbook("ingestion-behind")])


def _store() -> Iterator[timeseries.Panel]:
    yield lines(
        "Store and disk",
        "The store's file beside what it may reach, and what is free on its disk.",
        query("sum(graspfleet_store_size_bytes)", "store"),
        query("sum(graspfleet_store_limit_bytes)", "limit"),
        query("min(graspfleet_store_disk_free_bytes)", "free on disk"),
        unit="bytes",
    ).links([runbook("store-filling"), runbook("disk-filling")])
    yield lines(
        "Refused messages",
        "In five minutes, by reason; connection and server-key are handshakes.",
        query(
            "sum by (reason) (increase(graspfleet_refused_messages_total[5m])) > 0", "{{reason}}"
        ),
        unit="short",
    ).links([runbook("keys-refused"), runbook("robot-messages-refused")])
    yield lines(
        "Missing, doubled, conflicting",
        "Missing ones of the robots that are known now; doubled ones are resends and harmless.",
        query("sum(max by (robot) (graspfleet_robot_missing_episodes))", "missing"),
        query("sum(graspfleet_store_duplicate_episodes_total)", "doubled"),
        query("sum(graspfleet_store_conflicting_episodes_total)", "conflicting"),
        unit="short",
    ).links([runbook("robot-sequences-missing"), runbook("robot-episodes-conflicting")])
    stored = lines(
        "Stored attempts",
        "Of every robot that ever delivered, by outcome.",
        query("sum by (outcome) (graspfleet_store_attempts_total)", "{{outcome}}"),
        unit="short",
    )
    stored.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    yield coloured(stored.fill_opacity(35), success=GREEN, failure=ORANGE, aborted=RED)


def _steps() -> Iterator[timeseries.Panel]:
    steps = lines(
        "Steps",
        "Per second. Training waits when every attempt was used as often as allowed.",
        query("sum(rate(graspfleet_training_steps_total[$__rate_interval]))", "steps"),
        query("max(graspfleet_training_waiting)", "waiting"),
        unit="short",
    )
    yield dashed(coloured(steps, steps=BLUE), "waiting", YELLOW).links(
        [runbook(page) for page in ("training-stalled", "trainer-silent", "trainer-crashing")]
    )
    yield lines(
        "Time of a step",
        "The step alone, and the whole loop for each step.",
        query(
            "sum(rate(graspfleet_training_step_seconds_sum[$__rate_interval]))"
            " / (sum(rate(graspfleet_training_step_seconds_count[$__rate_interval])) > 0)",
            "step",
        ),
        query(
            "sum(rate(graspfleet_training_step_seconds_sum[$__rate_interval]))"
            " / (sum(rate(graspfleet_training_step_seconds_count[$__rate_interval])) > 0)"
            " / max(graspfleet_training_step_time_ratio)",
            "with the loop",
        ),
        unit="s",
    )


def _quality() -> Iterator[timeseries.Panel | bargauge.Panel]:
    yield lines(
        "Loss",
        "Log-loss of recent batches, and of the released average on attempts that training never "
        "saw. The second one rising under a falling first one: learnt by heart.",
        query("max(graspfleet_training_loss)", "batches"),
        query("max(graspfleet_training_held_out_loss)", "held out"),
        unit="short",
        decimals=3,
    )
    yield share(
        "Held out: order and calibration",
        "Area under the ROC curve, and the mean difference between predicted and realised success, "
        "on attempts that training never saw.",
        query("max(graspfleet_training_held_out_auc_ratio)", "area under the curve"),
        query("max(graspfleet_training_held_out_calibration_error_ratio)", "calibration error"),
    ).links([runbook("fleet-calibration-off")])
    yield _reliability()


def _replay() -> Iterator[timeseries.Panel]:
    visits = lines(
        "Visits of an example",
        "How often an example was used on average, and how often it may be.",
        query("max(graspfleet_training_visits_per_sample)", "visits"),
        query("max(graspfleet_training_visits_limit)", "limit"),
        unit="short",
    )
    yield dashed(coloured(visits, visits=BLUE), "limit")
    replay = lines(
        "Replay",
        "Decoded examples in memory, and what they may take. Full: the oldest go.",
        query("max(graspfleet_training_replay_size_bytes)", "replay"),
        query("max(graspfleet_training_replay_limit_bytes)", "limit"),
        unit="bytes",
    )
    yield dashed(coloured(replay, replay=BLUE), "limit")
    yield share(
        "Successes in replay",
        "Batches are balanced whatever it is.",
        query("max(graspfleet_training_replay_success_ratio)", "successes"),
    )


def _reliability() -> bargauge.Panel:
    panel = (
        bargauge.Panel()
        .title("Realised success by prediction")
        .description(
            "Over six hours, all robots: of the attempts where closing was predicted to succeed "
            "with the chance on the left, the share that did. A calibrated network fills each bar "
            "as far as it is named."
        )
        .datasource(SOURCE)
        .unit("percentunit")
        .decimals(0)
        .min(0)
        .max(1)
        .span(6)
        .height(7)
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .thresholds(thresholds(PLAIN))
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .links([runbook("fleet-calibration-off")])
    )
    for ref, lower, upper in zip("ABCDEFGHIJ", ("", *_BUCKETS), _BUCKETS, strict=False):
        succeeded, finished = _between(lower, upper, 'outcome="success", '), _between(lower, upper)
        name = f"{float(lower or 0):.0%} to {float(upper):.0%}"
        panel.with_target(latest(f"{succeeded} / ({finished} > 0)", name).ref_id(ref))
    return panel


def _between(lower: str, upper: str, outcome: str = "") -> str:
    """Return how many predictions of six hours lay between two bounds of the histogram."""
    metric = "graspfleet_predicted_success_ratio_bucket"
    below_upper = f'sum(increase({metric}{{{outcome}le="{upper}"}}[6h]))'
    if not lower:
        return below_upper
    return f'({below_upper} - sum(increase({metric}{{{outcome}le="{lower}"}}[6h])))'


def _releases() -> Iterator[timeseries.Panel]:
    yield lines(
        "Published and withheld",
        "In an hour. Candidates that do worse on held-out attempts are withheld.",
        query("sum(increase(graspfleet_releases_published_total[1h]))", "published"),
        query("sum(increase(graspfleet_releases_withheld_total[1h]))", "withheld"),
        unit="short",
    )
    yield lines(
        "Making a release",
        "Judging, building, signing and handing out.",
        query(
            "sum(rate(graspfleet_release_making_seconds_sum[5m]))"
            " / (sum(rate(graspfleet_release_making_seconds_count[5m])) > 0)",
            "mean",
        ),
        unit="s",
    )
    yield lines(
        "Rollout",
        "From published until in use on the last live robot, or superseded there. Robots swap "
        "between attempts, so an attempt's time is the least.",
        query(_quantile("0.5", "graspfleet_release_rollout_seconds", "10m"), "median"),
        query(_quantile("0.99", "graspfleet_release_rollout_seconds", "10m"), "99 %"),
        unit="s",
    ).links([runbook("robot-release-not-taken")])
    decisions = lines(
        "Time of a decision",
        "Of every robot's decisions.",
        query(_quantile("0.5", "graspfleet_decision_seconds"), "median"),
        query(_quantile("0.99", "graspfleet_decision_seconds"), "99 %"),
        unit="s",
    )
    yield coloured(decisions, median=BLUE)


def _process() -> Iterator[timeseries.Panel]:
    yield lines(
        "Processor time of the gateway",
        "Cores in use.",
        query(
            'rate(process_cpu_seconds_total{job="graspfleet-learner"}[$__rate_interval])',
            "{{instance}}",
        ),
        unit="short",
        decimals=2,
    )
    yield lines(
        "Memory of the gateway",
        "Resident.",
        query('process_resident_memory_bytes{job="graspfleet-learner"}', "{{instance}}"),
        unit="bytes",
    )


def _quantile(quantile: str, histogram: str, window: str = "$__rate_interval") -> str:
    return f"histogram_quantile({quantile}, sum by (le) (rate({histogram}_bucket[{window}])))"
