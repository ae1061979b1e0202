"""An operator's question that nobody answers ends with a word, and in time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import msgspec
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from fleet import operator_client
from fleet.operator_client import OperatorClient
from protocol.codec import encode_message
from protocol.errors import TransientError
from protocol.messages import FromGateway, Refusal, StatusReply, StatusRequest
from protocol.security import load_curve_keys
from tests.delivery_site import DeliverySite, make_site
from tests.silent_server import silent_server


@pytest.fixture
def site(tmp_path: Path) -> DeliverySite:
    site = make_site(tmp_path)
    site.make_keys("stranger")
    return site


@pytest.fixture
def stranger(site: DeliverySite) -> Iterator[OperatorClient]:
    """Return the client of an operator whose key the gateway, once it runs, refuses."""
    keys = site.keys_of("stranger")
    with OperatorClient(site.endpoint, keys, site.server_public(), FromGateway) as client:
        yield client


@pytest.mark.timeout(30)
def test_a_key_that_is_refused_just_before_the_question_is_sent_does_not_hang(
    site: DeliverySite, stranger: OperatorClient, monkeypatch: pytest.MonkeyPatch
):
    gateway = site.gateway()
    events = stranger._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)

    def encode_until_refused(question: msgspec.Struct) -> bytes:
        """Take so long over the question that the connection is gone when it is sent."""
        gateway.start()
        recv_monitor_message(events)
        while stranger._socket.poll(0, zmq.POLLOUT):
            pass
        return encode_message(question)

    monkeypatch.setattr(operator_client, "encode_message", encode_until_refused)
    try:
        with pytest.raises(TransientError, match="does its registry hold"):
            stranger.ask(StatusRequest(), StatusReply)
    finally:
        stranger._socket.disable_monitor()
        events.close()
        gateway.stop()


def test_what_was_left_of_the_time_is_said_in_words_for_people(stranger: OperatorClient):
    with pytest.raises(TransientError, match=r"did not answer in 0\.2 s; does it run"):
        stranger.ask(StatusRequest(), StatusReply, 0.1999374)


def test_words_of_a_learner_cannot_steer_the_operators_terminal(site: DeliverySite):
    keys = load_curve_keys(site.folder / "keys" / "learner.secret")
    with (
        silent_server(keys, site.endpoint) as server,
        OperatorClient(
            site.endpoint, site.enrol("operator", "operator"), site.server_public(), FromGateway
        ) as client,
        ThreadPoolExecutor() as asking,
    ):
        for answer in (
            encode_message(Refusal(code="not-enrolled", reason="no\x1b[2J\nfleet: all is well")),
            msgpack.packb({"type": "status_reply", "\x1b[2J": 1}),
        ):
            asked = asking.submit(client.ask, StatusRequest(), StatusReply)
            peer, _ = server.recv_multipart()
            server.send_multipart([peer, answer])
            said = str(asked.exception(timeout=30.0))
            assert "\N{REPLACEMENT CHARACTER}[2J" in said
            assert said.isprintable()
