"""The small HTTP server, over real sockets, among clients that hold connections and say nothing."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from protocol.errors import ConfigurationError
from protocol.http_server import AT_ONCE, HttpServer, Page
from protocol.recent_value import RecentValue
from tests.waiting import PATIENCE_S, wait_until

Serve = Callable[..., HttpServer]
Connect = Callable[[HttpServer, bytes], socket.socket]
UNFINISHED = b"GET /page HTTP/1.0\r\nName: "
LARGE_BYTES = 32 * 2**20
"""More than the system's buffers of a connection take."""


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return what starts servers; they end with the test."""
    servers: list[HttpServer] = []

    def serve(page: Page = lambda host: ("text/plain", b"text"), **options: float) -> HttpServer:
        servers.append(HttpServer("127.0.0.1:0", {"/page": page}, **options))
        servers[-1].start()
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return what connects and says the beginning of something."""
    connections: list[socket.socket] = []

    def connect(server: HttpServer, said: bytes) -> socket.socket:
        connections.append(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S))
        connections[-1].sendall(said)
        return connections[-1]

    yield connect
    for connection in connections:
        connection.close()


def read(server: HttpServer, path: str = "/page") -> bytes:
    with urllib.request.urlopen(f"http://{server.endpoint}{path}", timeout=PATIENCE_S) as answer:
        return answer.read()


def is_cut(connection: socket.socket) -> bool:
    """Say one byte more; return whether nobody listens any more."""
    try:
        connection.sendall(b"a")
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_dripping_connections_do_not_keep_a_scraper_out(serve: Serve, connect: Connect):
    server = serve()
    dripping = [connect(server, UNFINISHED) for _ in range(2 * AT_ONCE)]
    for _ in range(3):
        assert read(server) == b"text"
        for place, connection in enumerate(dripping):
            connection.settimeout(0.01)
            if is_cut(connection):
                dripping[place] = connect(server, UNFINISHED)


def test_connections_that_do_not_read_do_not_keep_a_scraper_out(serve: Serve, connect: Connect):
    server = serve(lambda host: ("text/plain", bytes(LARGE_BYTES)))
    for _ in range(2 * AT_ONCE):
        connect(server, b"GET /page HTTP/1.0\r\n\r\n")
    assert len(read(server)) == LARGE_BYTES


def test_a_request_has_one_deadline_however_often_it_says_something(serve: Serve, connect: Connect):
    server = serve(request_within_s=0.5)
    dripping = connect(server, UNFINISHED)
    dripping.settimeout(0.05)
    wait_until(lambda: is_cut(dripping), "the connection is cut")
    assert read(server) == b"text"


def test_idle_connections_have_no_more_threads_than_the_limit(connect: Connect):
    before = threading.active_count()
    server = HttpServer("127.0.0.1:0", {"/page": lambda host: ("text/plain", b"text")})
    server.start()
    for _ in range(100):
        connect(server, b"")
    # It is served after all those before it.
    assert read(server) == b"text"
    assert threading.active_count() <= before + 1 + AT_ONCE
    server.close()
    wait_until(lambda: threading.active_count() <= before, "all threads have ended")


def test_readers_within_a_period_get_the_same_text_and_later_ones_a_new_one(serve: Serve):
    now_s, made = [0.0], []

    def make() -> bytes:
        made.append(None)
        return b"%d" % len(made)

    recent = RecentValue(make, kept_s=1.0, clock=lambda: now_s[0])
    server = serve(lambda host: ("text/plain", recent.get()))
    with ThreadPoolExecutor(AT_ONCE) as readers:
        assert set(readers.map(read, [server] * AT_ONCE)) == {b"1"}
    now_s[0] = 0.9
    assert read(server) == b"1"
    now_s[0] = 1.0
    assert read(server) == b"2"


def test_what_cannot_be_made_is_said_and_tried_again(serve: Serve):
    outcomes: list[bytes] = []
    recent = RecentValue(lambda: outcomes.pop(), kept_s=3600.0)
    server = serve(lambda host: ("text/plain", recent.get()))
    with pytest.raises(urllib.error.HTTPError, match="500"):
        read(server)
    outcomes.append(b"well again")
    assert read(server) == b"well again"


def test_another_page_is_refused_and_so_is_a_taken_port(serve: Serve):
    server = serve()
    with pytest.raises(urllib.error.HTTPError, match="404: there is only /page"):
        read(server, "/other")
    with pytest.raises(ConfigurationError, match=f"{server.endpoint}: .*in use"):
        HttpServer(server.endpoint, {})
