"""A robot's connection to the learner, where it is refused and where it cannot be made."""

from __future__ import annotations

import math
import os
import resource
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from protocol.limits import LOGGED_REFUSALS
from protocol.sockets import SocketLimits
from robot_agent.learner_connection import LearnerConnection
from tests.delivery_site import DeliverySite, make_site
from tests.faulty_link import FaultyLink
from tests.waiting import wait_until


@pytest.fixture
def site(tmp_path: Path) -> DeliverySite:
    return make_site(tmp_path)


@pytest.fixture
def connection(site: DeliverySite) -> Iterator[LearnerConnection]:
    process = site.start("gateway")
    keys = site.make_keys("arm")
    connection = LearnerConnection(
        site.endpoint, keys, site.learner_keys("arm"), SocketLimits(frame_bytes=2**20)
    )
    connection.open()
    yield connection
    connection.close()
    process.kill()
    process.wait()


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    opened: list[int] = []
    try:
        with suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def says(connection: LearnerConnection, words: str) -> bool:
    connection.receive(0.02)
    return words in connection.refusal


def is_connected(connection: LearnerConnection) -> bool:
    connection.receive(0.02)
    return connection.is_connected


def test_a_robot_that_was_out_of_files_comes_back_by_itself(
    site: DeliverySite, connection: LearnerConnection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.learner_connection.RETRY_REFUSED_AFTER_S", 0.1)
    wait_until(lambda: says(connection, "not enrolled"), "it is refused")
    with no_more_files():
        wait_until(lambda: says(connection, "no new connection can be made"), "it says why")
    site.registry.enrol("arm", site.keys_of("arm").public.decode())
    wait_until(lambda: is_connected(connection), "it is let in")


def test_a_connection_is_closed_also_where_it_was_never_opened(site: DeliverySite):
    keys = site.make_keys("leg")
    LearnerConnection(
        site.endpoint, keys, site.learner_keys("leg"), SocketLimits(frame_bytes=2**20)
    ).close()


def zeromq_threads() -> list[str]:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return sorted(name for name in names if name.startswith("ZMQbg"))


def test_all_connections_of_a_process_share_zeromqs_threads(
    site: DeliverySite, connection: LearnerConnection
):
    before = zeromq_threads()
    assert before
    keys, learner_keys = site.make_keys("leg"), site.learner_keys("leg")
    others = [
        LearnerConnection(site.endpoint, keys, learner_keys, SocketLimits(frame_bytes=2**20))
        for _ in range(5)
    ]
    for other in others:
        other.open()
    assert zeromq_threads() == before
    for other in others:
        other.close()
    wait_until(lambda: says(connection, "not enrolled"), "the first one goes on")


def test_only_a_learner_that_breaks_off_twice_is_taken_for_another_one(
    site: DeliverySite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("robot_agent.learner_connection.RETRY_REFUSED_AFTER_S", 0.1)
    # Its handler does nothing: every connection is closed before the handshake.
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = LearnerConnection(
            f"tcp://127.0.0.1:{server.server_address[1]}",
            site.make_keys("leg"),
            site.learner_keys("leg"),
            SocketLimits(frame_bytes=2**20),
        )
        connection.open()
        wait_until(lambda: says(connection, "copy server.public"), "it says what to do")
        connection.close()
        server.shutdown()
    first, second = caplog.messages
    assert "broke off" in first
    assert "copy server.public" in second


def test_a_link_that_comes_and_goes_does_not_fill_the_log(
    site: DeliverySite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("robot_agent.learner_connection.RETRY_REFUSED_AFTER_S", 0.05)
    monkeypatch.setattr("robot_agent.learner_connection.CONNECT_ANEW_AFTER_S", 0.05)
    monkeypatch.setattr("protocol.refusal_log.LOGGING_PERIOD_S", math.inf)
    keys = site.enrol("leg")
    with (
        site.running_gateway() as gateway,
        FaultyLink(int(gateway.endpoint.rsplit(":", 1)[1])) as link,
    ):
        connection = LearnerConnection(
            link.endpoint, keys, site.learner_keys("leg"), SocketLimits(frame_bytes=2**20)
        )
        connection.open()
        for _ in range(3 * LOGGED_REFUSALS):
            wait_until(lambda: is_connected(connection), "the link is there")
            link.refuses = True
            link.reset()
            wait_until(lambda: says(connection, "broke off"), "the link is gone")
            link.refuses = False
        assert sum("broke off" in line for line in caplog.messages) == LOGGED_REFUSALS
        monkeypatch.setattr("protocol.refusal_log.LOGGING_PERIOD_S", 0.0)
        connection.receive(0.0)
        assert f"{2 * LOGGED_REFUSALS} more times" in caplog.text
        connection.close()
