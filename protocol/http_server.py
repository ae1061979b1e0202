"""A small HTTP server beside work that must not suffer from it, whoever connects.

It has few connections at a time, and therefore few threads. Each has one deadline for everything,
from the first byte asked to the last one answered. When all are taken the oldest makes way: who
asks and reads at once is served, however many others hold connections and say nothing.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from protocol.errors import ConfigurationError
from protocol.refusal_log import printable

logger = logging.getLogger(__name__)

Page = Callable[[str], tuple[str, bytes]]
"""From the name under which the server was asked, to content type and body."""
AT_ONCE = 8
"""Connections, each with a thread."""
KEPT_S = 1.0
"""How long the text of a page should serve whoever else asks, see RecentValue."""
REQUEST_WITHIN_S = 10.0
_ROOM_WITHIN_S = 0.1
_LOOK_EVERY_S = 0.2
_CLOSE_WITHIN_S = 1.0


class HttpServer:
    """Answers ``GET`` of a few pages."""

    def __init__(
        self, bind: str, pages: Mapping[str, Page], request_within_s: float = REQUEST_WITHIN_S
    ) -> None:
        """Listen; nothing is answered before ``start``.

        Args:
            bind: ``host:port``; with port 0 the system chooses one.
            pages: by path. They are called on threads of this server, also at the same time.
            request_within_s: how long a connection may last.

        Raises:
            ConfigurationError: the port is in use, or the address is not this machine's.
        """
        host, _, port = bind.rpartition(":")
        try:
            self._server = _Server((host.strip("[]"), int(port)), pages, request_within_s)
        except OSError as error:
            raise ConfigurationError(f"metrics.bind {bind}: {error.strerror or error}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_LOOK_EVERY_S,), name="http", daemon=True
        )
        self.port: int = self._server.server_address[1]
        self.endpoint = f"{host}:{self.port}"
        """``host:port`` where it listens."""

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more; a page that is being made may be waited for a moment."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], pages: Mapping[str, Page], request_within_s: float
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.pages = pages
        self.request_within_s = request_within_s
        self._free = threading.Semaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        """When each connection ends at the latest, the oldest first."""
        # Last: it closes everything when it cannot listen.
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Serve a connection on a thread of its own, in place of the oldest if need be."""
        if not self._free.acquire(blocking=False):
            self._cut(oldest=1)
            if not self._free.acquire(timeout=_ROOM_WITHIN_S):
                self.shutdown_request(request)
                return
        with self._lock:
            self._open[request] = time.monotonic() + self.request_within_s
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread was to be had.
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """See ThreadingMixIn; runs on the connection's thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def service_actions(self) -> None:
        """See BaseServer; called between connections, and a few times a second."""
        now_s = time.monotonic()
        with self._lock:
            late = sum(ends_s <= now_s for ends_s in self._open.values())
        self._cut(oldest=late)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        """See BaseServer."""
        # Held while it closes: its descriptor may be another connection's right afterwards.
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)

    def server_close(self) -> None:
        """See BaseServer."""
        super().server_close()
        self._cut(oldest=AT_ONCE)
        # What pages look at may be closed next.
        for _ in range(AT_ONCE):
            if not self._free.acquire(timeout=_CLOSE_WITHIN_S):
                logger.warning("http: a page took too long to be waited for")
                return

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Log instead of writing a traceback to the process' stderr."""
        error = sys.exception()
        if isinstance(error, OSError):
            logger.debug("http: %s went away: %s", client_address, error)
        else:
            logger.warning("http: a request of %s failed", client_address, exc_info=True)

    def _cut(self, *, oldest: int) -> None:
        """End connections; their threads notice, and close them."""
        with self._lock:
            for connection in list(self._open)[:oldest]:
                del self._open[connection]
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_WITHIN_S
    """Of one read; the server sees to the whole."""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            known = " and ".join(self.server.pages)
            self.send_error(HTTPStatus.NOT_FOUND, f"there is only {known}")
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
        logger.debug("%s", printable(format % args))
