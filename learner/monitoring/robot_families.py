"""What is said of every robot, metric by metric; docs/metrics.md says what each of them means."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TypeVar

from learner.monitoring.attempt_counts import RobotCounts
from learner.monitoring.drift_watch import DriftEvidence
from learner.monitoring.exposition import Family, Kind, Series, Value
from learner.monitoring.fleet_snapshot import RobotSnapshot
from learner.store.ledger import RobotLedger
from protocol.episode import Label
from protocol.messages import Heartbeat, RobotHealth
from protocol.refusal_code import RefusalCode

_PREFIX = "graspfleet_robot_"
_JUDGED = (Label.SUCCESS, Label.FAILURE)
_REFUSALS: frozenset[str] = frozenset(
    {
        RefusalCode.CONFLICTS,
        RefusalCode.DIGEST,
        RefusalCode.MALFORMED,
        RefusalCode.NAME,
        RefusalCode.PICTURE_SIZE,
        RefusalCode.RATE,
        RefusalCode.RECORD,
        RefusalCode.ROBOT_NAME,
        RefusalCode.TOMBSTONE,
        RefusalCode.TWO_AGENTS,
        RefusalCode.WIRE_VERSION,
    }
)
"""What a robot's own messages may be refused for; see RobotMessagesRefused."""

S = TypeVar("S")


def _family(name: str, kind: Kind, text: str, *series: Series[S]) -> Family[S]:
    return Family(name=_PREFIX + name, kind=kind, help=text, series=series)


def _one(name: str, kind: Kind, text: str, value: Callable[[S], Value]) -> Family[S]:
    return _family(name, kind, text, Series(value=value))


def _by_outcome(
    labels: tuple[Label, ...], value: Callable[[S, Label], Value], suffix: str = ""
) -> list[Series[S]]:
    def series_of(label: Label) -> Series[S]:
        return Series(
            value=lambda source: value(source, label),
            suffix=suffix,
            labels=f'outcome="{label.value}"',
        )

    return [series_of(label) for label in labels]


def refused(robots: list[RobotSnapshot]) -> Family[RobotSnapshot]:
    """Return the one family whose series are not all known before."""

    def series_of(reason: str) -> Series[RobotSnapshot]:
        # From the start: Prometheus does not see an increase to a first value.
        first = 0 if reason in _REFUSALS else None
        return Series(
            value=lambda robot: robot.view.refused.get(reason, first), labels=f'reason="{reason}"'
        )

    reasons = sorted({reason for robot in robots for reason in robot.view.refused} | _REFUSALS)
    return _family(
        "refused_messages_total",
        "counter",
        "Messages of the robot that were refused.",
        *(series_of(reason) for reason in reasons),
    )


def _seconds_of(milliseconds: str) -> Callable[[Heartbeat], float]:
    read = attrgetter(milliseconds)
    return lambda beat: read(beat) / 1e3


LEDGER: tuple[Family[RobotLedger], ...] = (
    _family(
        "attempts_total",
        "counter",
        "Stored attempts by their own label.",
        *_by_outcome(tuple(Label), lambda one, label: one.ever[label]),
    ),
    _one("stored_episodes_total", "counter", "Episodes that came.", attrgetter("stored")),
    _one(
        "missing_episodes",
        "gauge",
        "Sequences below the highest that neither came nor were given up.",
        attrgetter("missing"),
    ),
    _one(
        "tombstoned_episodes",
        "gauge",
        "Sequences that the robot gave up and that have not come after all.",
        attrgetter("tombstoned"),
    ),
    _one(
        "duplicate_episodes_total",
        "counter",
        "Episodes that came again and were the same.",
        attrgetter("duplicates"),
    ),
    _one(
        "conflicting_episodes_total",
        "counter",
        "Episodes that came under a taken sequence and were not the same.",
        attrgetter("conflicts"),
    ),
    _one(
        "retired_episodes_total",
        "counter",
        "Stored episodes that retention has removed.",
        attrgetter("retired"),
    ),
)
COUNTS: tuple[Family[RobotCounts], ...] = (
    _family(
        "greedy_attempts_total",
        "counter",
        "Attempts that neither explored nor were random.",
        *_by_outcome(tuple(Label), lambda one, label: one.greedy[label]),
    ),
    _family(
        "predicted_success_ratio",
        "summary",
        "Predicted success of closing where the robot closed.",
        *_by_outcome(_JUDGED, lambda one, label: one.predicted[label], "_count"),
        *_by_outcome(_JUDGED, lambda one, label: one.predicted_sum[label], "_sum"),
    ),
    _one(
        "label_disagreements_total",
        "counter",
        "Attempts whose gripper reading and drop test contradict each other.",
        attrgetter("disagreements"),
    ),
    _one(
        "received_bytes_total", "counter", "Bytes of stored records.", attrgetter("received_bytes")
    ),
)
CONNECTION: tuple[Family[RobotSnapshot], ...] = (
    _one(
        "connected",
        "gauge",
        "1 when the robot was heard within the last seconds.",
        lambda robot: int(robot.view.is_live),
    ),
    _one(
        "last_seen_timestamp_seconds",
        "gauge",
        "When the robot was heard last.",
        attrgetter("seen_at_s"),
    ),
    _one(
        "release_pinned",
        "gauge",
        "1 when an operator has pinned the robot, or the fleet.",
        lambda robot: int(robot.view.is_pinned),
    ),
)
HEARTBEAT: tuple[Family[Heartbeat], ...] = (
    _one("sent_bytes_total", "counter", "Bytes of records that it sent.", attrgetter("sent_bytes")),
    _one("reconnects_total", "counter", "Connections after the first.", attrgetter("reconnects")),
    _one(
        "outbox_episodes",
        "gauge",
        "Episodes that wait on the robot.",
        attrgetter("outbox_episodes"),
    ),
    _one("outbox_bytes", "gauge", "Size of those episodes.", attrgetter("outbox_bytes")),
    _one(
        "release_version",
        "gauge",
        "Release in use, 0 for none.",
        attrgetter("release_version"),
    ),
    _one(
        "decision_median_seconds",
        "gauge",
        "Median time of recent decisions.",
        _seconds_of("decision_ms_p50"),
    ),
    _one(
        "decision_p99_seconds",
        "gauge",
        "99th percentile of the time of recent decisions.",
        _seconds_of("decision_ms_p99"),
    ),
    _one(
        "warnings",
        "gauge",
        "Things that a person should look at.",
        lambda beat: len(beat.warnings),
    ),
)
HEALTH: tuple[Family[RobotHealth], ...] = (
    _one(
        "outbox_limit_bytes",
        "gauge",
        "What the robot's spool may hold.",
        attrgetter("outbox_limit_bytes"),
    ),
    _one(
        "outbox_oldest_seconds",
        "gauge",
        "How long the oldest waiting episode has waited.",
        attrgetter("outbox_oldest_s"),
    ),
    _one(
        "release_created_timestamp_seconds",
        "gauge",
        "When the release in use was made.",
        lambda health: health.release_created_at_ns / 1e9 or None,
    ),
    _one(
        "servo_rate_hertz",
        "gauge",
        "Servoing steps per second in recent attempts.",
        lambda health: health.servo_hz or None,
    ),
    _one(
        "camera_up",
        "gauge",
        "0 when the camera failed at its last use.",
        lambda health: int(health.camera_ok),
    ),
    _one(
        "servos_up",
        "gauge",
        "0 when arm or gripper failed at their last use.",
        lambda health: int(health.servos_ok),
    ),
    _one(
        "camera_faults_total",
        "counter",
        "Attempts that the camera ended.",
        attrgetter("camera_faults"),
    ),
    _one(
        "servo_faults_total",
        "counter",
        "Attempts that arm or gripper ended.",
        attrgetter("servo_faults"),
    ),
    _one("safety_stops_total", "counter", "Safety faults.", attrgetter("safety_stops")),
    _one(
        "camera_shift_pixels",
        "gauge",
        "How far the bin has moved in the picture.",
        attrgetter("camera_shift_px"),
    ),
    _one(
        "gripper_zero_drift_meters",
        "gauge",
        "Change of what the closed gripper reads.",
        attrgetter("gripper_zero_drift_m"),
    ),
    _one(
        "temperature_celsius",
        "gauge",
        "Temperature of the hottest part.",
        attrgetter("temperature_c"),
    ),
)
DRIFT: tuple[Family[DriftEvidence], ...] = (
    _one(
        "drift_success_detected",
        "gauge",
        "1 when success has left its past.",
        lambda drift: int(drift.success_detected),
    ),
    _one(
        "drift_success_evidence",
        "gauge",
        "Evidence of that, as a share of what raises the alarm.",
        attrgetter("success"),
    ),
    _one(
        "drift_calibration_detected",
        "gauge",
        "1 when success beside what was predicted has left its past.",
        lambda drift: int(drift.calibration_detected),
    ),
    _one(
        "drift_calibration_evidence",
        "gauge",
        "Evidence of that, as a share of what raises the alarm.",
        attrgetter("calibration"),
    ),
)
