"""Serves metrics and discovery over HTTP, to whoever can reach the port."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.process_collector import ProcessCollector

from learner.monitoring.fleet_snapshot import FleetSnapshot
from learner.monitoring.learner_metrics import LearnerCollector
from learner.monitoring.robot_metrics import robots_text
from learner.monitoring.targets import targets_of
from protocol.errors import ConfigurationError

logger = logging.getLogger(__name__)

Page = Callable[[str], tuple[str, bytes]]
"""From the name under which the server was asked, to content type and body."""
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_WITHIN_S = 10.0
_AT_ONCE = 16
"""Requests; who comes while so many are served is turned away, for each takes a thread."""
_HOST = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")


class MetricsServer:
    """``GET /metrics`` for Prometheus, ``GET /targets`` for its HTTP service discovery."""

    def __init__(self, bind: str, snapshot: Callable[[], FleetSnapshot]) -> None:
        """Listen; nothing is answered before ``start``.

        Args:
            bind: ``host:port``; with port 0 the system chooses one.
            snapshot: says how the fleet is; called on threads of this server, one at a time.

        Raises:
            ConfigurationError: the port is in use, or the address is not this machine's.
        """
        self._snapshot = snapshot
        self._process = ProcessCollector(registry=None)
        # Two who ask at once shall not make two answers at once.
        self._turn = threading.Lock()
        pages = {"/metrics": self._metrics, "/targets": self._targets}
        host, _, port = bind.rpartition(":")
        try:
            self._server = _Server((host.strip("[]"), int(port)), pages)
        except OSError as error:
            raise ConfigurationError(f"metrics.bind {bind}: {error.strerror or error}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self.endpoint = f"{host}:{self._server.server_address[1]}"
        """``host:port`` where it listens."""

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        logger.info("metrics at http://%s/metrics", self.endpoint)

    def close(self) -> None:
        """Answer no more."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def text(self) -> bytes:
        """Return all metrics as they are now."""
        with self._turn:
            snapshot = self._snapshot()
            registry = CollectorRegistry()
            registry.register(self._process)
            registry.register(LearnerCollector(snapshot))
            return generate_latest(registry) + "".join(robots_text(snapshot.robots)).encode()

    def _metrics(self, host: str) -> tuple[str, bytes]:
        del host
        return TEXT_FORMAT, self.text()

    def _targets(self, host: str) -> tuple[str, bytes]:
        with self._turn:
            snapshot = self._snapshot()
        # Whoever asks reaches this endpoint under the name that it asks for.
        own = host if _HOST.fullmatch(host) else self.endpoint
        return "application/json", json.dumps(targets_of(snapshot, own)).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.pages = pages
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Serve a request on a thread of its own, if there is one."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """See ThreadingMixIn; runs on the request's thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Log instead of writing a traceback to the process' stderr."""
        logger.warning("metrics: a request of %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_WITHIN_S

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND, "only /metrics and /targets are here")
            return
        try:
            kind, body = page(self.headers.get("Host", ""))
        except Exception as error:
            # The next request may fare better; what it is about goes on meanwhile.
            logger.exception("%s cannot be answered", self.path)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=str(error))
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)
