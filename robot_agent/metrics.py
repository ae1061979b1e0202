"""An agent's own metrics over HTTP; docs/metrics.md says what each of them means."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from ipaddress import ip_address

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from protocol.episode import Episode, Label, StepKind
from protocol.http_server import KEPT_S, HttpServer
from protocol.messages import Heartbeat
from protocol.recent_value import RecentValue
from robot_agent.config import AgentConfig
from robot_agent.delivery.uplink import UplinkStats
from robot_agent.robots.base import Robot, WiredRobot

logger = logging.getLogger(__name__)

_PREFIX = "graspfleet_agent_"
_TENTHS = tuple(tenth / 10 for tenth in range(1, 11))
_DECISION_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

# Each counter would otherwise have a second series that says when it began.
disable_created_metrics()  # type: ignore[no-untyped-call]


class AgentMetrics:
    """Serves ``GET /metrics`` until it is closed."""

    def __init__(
        self,
        config: AgentConfig,
        heartbeat: Callable[[], Heartbeat],
        uplink: Callable[[], UplinkStats],
        robot: Robot,
    ) -> None:
        """Begin to serve.

        Args:
            config: of the agent.
            heartbeat: says how the robot is; called at most once a second.
            uplink: says what was delivered; called at most once a second.
            robot: whose wire is told of, if it counts what happens there.

        Raises:
            ConfigurationError: the port is in use, or the address is not this machine's.
        """
        name, self._task = config.name, config.task
        registry = CollectorRegistry()
        self._attempts = Counter(
            _PREFIX + "attempts",
            "Attempts since the agent started.",
            ("robot", "outcome", "task"),
            registry=registry,
        )
        self._predicted = Histogram(
            _PREFIX + "predicted_success_ratio",
            "Predicted success of attempts, by how they ended.",
            ("robot", "outcome"),
            buckets=_TENTHS,
            registry=registry,
        )
        self._decision_s = Histogram(
            _PREFIX + "decision_seconds",
            "Time of each decision.",
            ("robot",),
            buckets=_DECISION_S,
            registry=registry,
        ).labels(name)
        self._disagreements = Counter(
            _PREFIX + "label_disagreements",
            "Attempts whose gripper reading and drop test contradict each other.",
            ("robot",),
            registry=registry,
        ).labels(name)
        for label in Label:
            self._attempts.labels(name, label.value, self._task)
        if isinstance(robot, WiredRobot):
            registry.register(_Wire(name, robot))
        registry.register(_Present(name, heartbeat, uplink))
        self._robot = name
        host = config.metrics.bind.rpartition(":")[0]
        self._text = RecentValue(lambda: generate_latest(registry), KEPT_S)
        self._server = HttpServer(config.metrics.bind, {"/metrics": self._page})
        self._server.start()
        is_reachable = not _is_loopback(host) or all(
            _is_loopback(endpoint.removeprefix("tcp://").rpartition(":")[0])
            for endpoint in config.learner.gateways
        )
        self.offered_port = self._server.port if is_reachable else 0
        """What the learner tells Prometheus of; 0 where nobody on another machine gets in."""
        logger.info("metrics at http://%s/metrics", self._server.endpoint)

    def note_attempt(self, episode: Episode) -> None:
        """Count a finished attempt."""
        outcome = episode.outcome
        self._attempts.labels(self._robot, outcome.label.value, self._task).inc()
        self._disagreements.inc(outcome.tests_disagree)
        for step in episode.steps:
            if step.predicted_best is not None:
                self._decision_s.observe(step.decision_ms * 1e-3)
        closing = episode.steps[-1] if episode.steps else None
        if closing is None or closing.kind != StepKind.CLOSE or closing.predicted_stay is None:
            return
        if outcome.label != Label.ABORTED:
            self._predicted.labels(self._robot, outcome.label.value).observe(closing.predicted_stay)

    def close(self) -> None:
        """Answer no more."""
        self._server.close()

    def _page(self, host: str) -> tuple[str, bytes]:
        del host
        return CONTENT_TYPE_PLAIN_0_0_4, self._text.get()


class _Present(Collector):
    """What is true now, from one heartbeat."""

    def __init__(
        self, robot: str, heartbeat: Callable[[], Heartbeat], uplink: Callable[[], UplinkStats]
    ) -> None:
        self._robot = robot
        self._heartbeat = heartbeat
        self._uplink = uplink

    def describe(self) -> Iterator[Metric]:
        """Promise nothing: the agent is not ready to be asked when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that there is a value of."""
        beat, uplink = self._heartbeat(), self._uplink()
        health = beat.health
        assert health is not None
        gauges: tuple[tuple[str, str, float | None], ...] = (
            ("servo_rate_hertz", "Servoing steps per second.", health.servo_hz or None),
            ("outbox_episodes", "Episodes that wait.", beat.outbox_episodes),
            ("outbox_bytes", "Their size.", beat.outbox_bytes),
            ("outbox_limit_bytes", "What the outbox may hold.", health.outbox_limit_bytes),
            ("outbox_oldest_seconds", "How long the oldest waits.", health.outbox_oldest_s),
            ("connected", "1 when the learner takes episodes.", uplink.is_welcome),
            ("release_version", "Release in use, 0 for none.", beat.release_version),
            (
                "release_created_timestamp_seconds",
                "When the release in use was made.",
                health.release_created_at_ns / 1e9 or None,
            ),
            ("camera_up", "0 when the camera failed at its last use.", health.camera_ok),
            ("servos_up", "0 when arm or gripper failed at last use.", health.servos_ok),
            ("camera_shift_pixels", "How far the bin has moved.", health.camera_shift_px),
            (
                "gripper_zero_drift_meters",
                "Change of what the closed gripper reads.",
                health.gripper_zero_drift_m,
            ),
            ("temperature_celsius", "Of the hottest part.", health.temperature_c),
        )
        counters: tuple[tuple[str, str, float], ...] = (
            ("sent_bytes", "Bytes of records sent.", uplink.sent_bytes),
            ("sent_episodes", "Records sent, again too.", uplink.sent_episodes),
            ("acked_episodes", "Records acked.", uplink.acked_episodes),
            ("reconnects", "Connections after the first.", uplink.reconnects),
            ("camera_faults", "Attempts that the camera ended.", health.camera_faults),
            ("servo_faults", "Attempts that arm or gripper ended.", health.servo_faults),
            ("safety_stops", "Safety faults.", health.safety_stops),
        )
        for name, text, value in gauges:
            if value is not None:
                gauge = GaugeMetricFamily(_PREFIX + name, text, labels=("robot",))
                gauge.add_metric((self._robot,), float(value))
                yield gauge
        for name, text, count in counters:
            counter = CounterMetricFamily(_PREFIX + name, text, labels=("robot",))
            counter.add_metric((self._robot,), count)
            yield counter


class _Wire(Collector):
    """What happened on the robot's wire."""

    def __init__(self, robot: str, wired: WiredRobot) -> None:
        self._robot = robot
        self._wired = wired

    def describe(self) -> Iterator[Metric]:
        """Promise nothing, as the other one does."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield one counter for each thing that is counted."""
        for name, count in asdict(self._wired.bus_counters()).items():
            counter = CounterMetricFamily(
                f"{_PREFIX}bus_{name}", "On the wire of arm or controller.", labels=("robot",)
            )
            counter.add_metric((self._robot,), count)
            yield counter


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
