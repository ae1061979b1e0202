"""A robot's connection to the learner, where it is refused and where it cannot be made."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from protocol.sockets import SocketLimits
from robot_agent.learner_connection import LearnerConnection
from tests.delivery_site import DeliverySite, make_site, wait_until


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


def test_only_a_learner_that_breaks_off_twice_is_taken_for_another_one(
    site: DeliverySite, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robot_agent.learner_connection.RETRY_REFUSED_AFTER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = LearnerConnection(
            f"tcp://127.0.0.1:{listener.getsockname()[1]}",
            site.make_keys("leg"),
            site.learner_keys("leg"),
            SocketLimits(frame_bytes=2**20),
        )
        connection.open()
        break_off(listener)
        wait_until(lambda: says(connection, "broke off"), "it says what happened")
        break_off(listener)
        wait_until(lambda: says(connection, "copy server.public"), "it says what to do")
        connection.close()


def break_off(listener: socket.socket) -> None:
    """Take a connection as a learner does, and drop it in the middle of the handshake."""
    peer, _ = listener.accept()
    peer.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE".ljust(64, b"\0"))
    while len(peer.recv(4096, socket.MSG_PEEK)) < 64 + 200:
        pass
    peer.close()
