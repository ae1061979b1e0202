"""The metrics of the learner itself; docs/metrics.md says what each of them means."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from learner.monitoring.buckets import Buckets
from learner.monitoring.fleet_snapshot import FleetSnapshot, StoreSnapshot
from learner.monitoring.training_report import TrainingReport
from learner.store.ledger import StoreAccount
from protocol.episode import Label
from protocol.refusal_code import RefusalCode

_PREFIX = "graspfleet_"


class LearnerCollector(Collector):
    """Collects from one snapshot, so that all of an answer is of one moment."""

    def __init__(self, snapshot: FleetSnapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        snapshot = self._snapshot
        yield from _fleet(snapshot)
        yield from _ingestion(snapshot)
        yield from _store(snapshot.store)
        yield from _rollout(snapshot)
        if snapshot.trained_at_s is not None:
            yield _gauge(
                "training_last_report_timestamp_seconds",
                "When the gateway last heard of the trainer.",
                snapshot.trained_at_s,
            )
        if snapshot.training is not None:
            yield from _releases(snapshot.training)
            yield from _training(snapshot.training)
            yield from _replay(snapshot.training)


def _fleet(snapshot: FleetSnapshot) -> Iterator[Metric]:
    connected = sum(robot.view.is_live for robot in snapshot.robots)
    yield _gauge("robots_enrolled", "Robots whose keys may speak.", snapshot.enrolled)
    yield _gauge("robots_connected", "Robots heard within the last seconds.", connected)
    attempts = CounterMetricFamily(
        _PREFIX + "task_attempts", "Attempts of the fleet.", labels=("task", "outcome")
    )
    for task in sorted({task for task, _ in snapshot.attempts.tasks}):
        for label in Label:
            attempts.add_metric((task, label.value), snapshot.attempts.tasks.get((task, label), 0))
    yield attempts
    predicted = HistogramMetricFamily(
        _PREFIX + "predicted_success_ratio",
        "Predicted success of attempts, by how they ended.",
        labels=("outcome",),
    )
    for label, buckets in snapshot.attempts.predicted.items():
        predicted.add_metric((label.value,), *buckets.scaled(1))
    yield predicted
    yield _histogram(
        "decision_seconds", "Time of each decision.", snapshot.attempts.decision_ms, 1e-3
    )


def _ingestion(snapshot: FleetSnapshot) -> Iterator[Metric]:
    traffic = snapshot.traffic
    yield _counter("received_episodes", "Records that were admitted.", traffic.received_episodes)
    yield _counter("received_bytes", "Bytes of admitted records.", traffic.received_bytes)
    yield _counter("acked_episodes", "Episodes acked after a commit.", traffic.acked_episodes)
    refused = CounterMetricFamily(
        _PREFIX + "refused_messages",
        "Messages and handshakes that were refused, strangers' too.",
        labels=("reason",),
    )
    # All of them from the start: Prometheus does not see an increase to a first value.
    for reason, count in sorted((dict.fromkeys(RefusalCode, 0) | snapshot.refusals).items()):
        refused.add_metric((reason,), count)
    yield refused
    yield _histogram("commit_seconds", "Time of each group commit.", traffic.commit_s, 1)
    yield _gauge("commit_queue_bytes", "Admitted, not yet committed.", snapshot.queued_bytes)
    yield _gauge(
        "commit_queue_limit_bytes",
        "Above it nothing more is read.",
        snapshot.queue_limit_bytes,
    )


def _store(store: StoreSnapshot) -> Iterator[Metric]:
    account = store.account
    if account.is_whole:
        # A sum without the unreadable ones would go back, which Prometheus takes for a restart.
        yield from _totals(account)
    yield _gauge("store_size_bytes", "Size of the store's file.", store.size_bytes)
    yield _gauge("store_limit_bytes", "What the store may reach.", store.limit_bytes)
    yield _gauge("store_disk_free_bytes", "Free on the store's disk.", store.disk_free_bytes)
    yield _gauge("store_disk_size_bytes", "Size of the store's disk.", store.disk_size_bytes)
    yield _gauge(
        "store_damaged", "1 when part of the store cannot be read.", int(bool(account.damage))
    )


def _totals(account: StoreAccount) -> Iterator[Metric]:
    ledgers = account.robots.values()
    attempts = CounterMetricFamily(
        _PREFIX + "store_attempts", "Stored attempts by label.", labels=("outcome",)
    )
    for label in Label:
        attempts.add_metric((label.value,), sum(ledger.ever[label] for ledger in ledgers))
    yield attempts
    yield _counter("store_episodes", "Episodes ever stored.", account.episodes)
    yield _gauge(
        "store_missing_episodes", "Missing sequences.", sum(ledger.missing for ledger in ledgers)
    )
    yield _counter(
        "store_duplicate_episodes",
        "Episodes that came again.",
        sum(ledger.duplicates for ledger in ledgers),
    )
    yield _counter(
        "store_conflicting_episodes",
        "Episodes under a taken sequence.",
        sum(ledger.conflicts for ledger in ledgers),
    )


def _rollout(snapshot: FleetSnapshot) -> Iterator[Metric]:
    view = snapshot.view
    yield _counter("releases_published", "Releases.", view.releases_published)
    yield _histogram(
        "release_rollout_seconds",
        "Published until in use on the last live robot.",
        view.rollout_ms,
        1e-3,
    )


def _releases(report: TrainingReport) -> Iterator[Metric]:
    yield _gauge("release_version", "The newest release.", report.release_version)
    if report.release_created_at_ns:
        yield _gauge(
            "release_created_timestamp_seconds",
            "When the newest release was made.",
            report.release_created_at_ns / 1e9,
        )
    yield _counter("releases_withheld", "Candidates held back.", report.releases_withheld)
    yield _counter(
        "releases_unpublished",
        "Candidates that the release server did not take, as it did not answer.",
        report.releases_unpublished,
    )
    making = SummaryMetricFamily(
        _PREFIX + "release_making_seconds", "Judging, building, signing, handing out."
    )
    making.add_metric((), report.releases_made, report.release_making_s)
    yield making


def _training(report: TrainingReport) -> Iterator[Metric]:
    yield _gauge(
        "training_start_time_seconds", "When the trainer started.", report.started_at_ns / 1e9
    )
    yield _gauge(
        "training_waiting", "1 when there is nothing new to learn from.", int(report.is_waiting)
    )
    yield _counter("training_steps", "Steps since the trainer started.", report.timed_steps)
    yield _gauge("training_step", "Steps of the whole training, as resumed.", report.steps)
    yield _counter("training_examples", "Examples that those steps used.", report.examples)
    step = SummaryMetricFamily(_PREFIX + "training_step_seconds", "Time of a step.")
    step.add_metric((), report.timed_steps, report.step_s)
    yield step
    yield _gauge("training_step_time_ratio", "Share of time in steps.", report.step_share)
    yield _gauge("training_loss", "Log-loss of recent batches.", report.loss)
    for name, key, text in _HELD_OUT:
        if key in report.held_out:
            yield _gauge(name, text, report.held_out[key])
    yield _gauge("training_visits_per_sample", "Uses of an example.", report.visits)
    yield _gauge("training_visits_limit", "Most uses of an example.", report.visits_limit)
    if report.checkpoint_at_ns:
        yield _gauge(
            "training_checkpoint_timestamp_seconds",
            "When the last checkpoint was written.",
            report.checkpoint_at_ns / 1e9,
        )


def _replay(report: TrainingReport) -> Iterator[Metric]:
    yield _gauge("training_replay_attempts", "Attempts in memory.", report.replay_attempts)
    yield _gauge("training_replay_examples", "Examples in memory.", report.replay_examples)
    yield _gauge("training_replay_size_bytes", "What they take.", report.replay_bytes)
    yield _gauge("training_replay_limit_bytes", "What they may take.", report.replay_limit_bytes)
    yield _gauge(
        "training_replay_success_ratio", "Share of successes.", report.replay_success_share
    )


_HELD_OUT = (
    ("training_held_out_loss", "held_out_loss", "Log-loss on held-out examples."),
    ("training_held_out_auc_ratio", "held_out_auc", "Area under the ROC curve there."),
    (
        "training_held_out_calibration_error_ratio",
        "held_out_calibration_error",
        "Mean difference between predicted and realised success there.",
    ),
)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    """Return a counter; ``_total`` is put behind its name."""
    return CounterMetricFamily(_PREFIX + name, text, value=value)


def _histogram(name: str, text: str, buckets: Buckets, factor: float) -> Metric:
    found = HistogramMetricFamily(_PREFIX + name, text)
    found.add_metric((), *buckets.scaled(factor))
    return found
