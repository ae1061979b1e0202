"""Serves metrics and discovery over HTTP, to whoever can reach the port."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.process_collector import ProcessCollector

from learner.monitoring.fleet_snapshot import FleetSnapshot
from learner.monitoring.learner_metrics import LearnerCollector
from learner.monitoring.robot_metrics import robots_text
from learner.monitoring.targets import targets_of
from protocol.http_server import KEPT_S, HttpServer
from protocol.recent_value import RecentValue

logger = logging.getLogger(__name__)

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
_HOST = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")


class MetricsServer:
    """``GET /metrics`` for Prometheus, ``GET /targets`` for its HTTP service discovery.

    Both are made at most once a second, however many ask.
    """

    def __init__(self, bind: str, snapshot: Callable[[], FleetSnapshot]) -> None:
        """Listen; nothing is answered before ``start``.

        Args:
            bind: ``host:port``; with port 0 the system chooses one.
            snapshot: says how the fleet is; called on threads of this server.

        Raises:
            ConfigurationError: the port is in use, or the address is not this machine's.
        """
        self._snapshot = snapshot
        self._process = ProcessCollector(registry=None)
        self._recent_text = RecentValue(self._text, KEPT_S)
        self._recent_targets = RecentValue(snapshot, KEPT_S)
        self._server = HttpServer(bind, {"/metrics": self._metrics, "/targets": self._targets})
        self.endpoint = self._server.endpoint
        """``host:port`` where it listens."""

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        logger.info("metrics at http://%s/metrics", self.endpoint)

    def close(self) -> None:
        """Answer no more."""
        self._server.close()

    def _text(self) -> bytes:
        snapshot = self._snapshot()
        registry = CollectorRegistry()
        registry.register(self._process)
        registry.register(LearnerCollector(snapshot))
        return generate_latest(registry) + "".join(robots_text(snapshot.robots)).encode()

    def _metrics(self, host: str) -> tuple[str, bytes]:
        del host
        return TEXT_FORMAT, self._recent_text.get()

    def _targets(self, host: str) -> tuple[str, bytes]:
        # Whoever asks reaches this endpoint under the name that it asks for.
        own = host if _HOST.fullmatch(host) else self.endpoint
        groups = targets_of(self._recent_targets.get(), own)
        return "application/json", json.dumps(groups).encode()
