"""Does the learner answer: name, TCP, the encrypted handshake, and a greeting."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from importlib.metadata import version
from urllib.parse import urlsplit

from protocol.codec import decode_message
from protocol.errors import ConfigurationError, RejectedMessageError
from protocol.key_files import credential_of
from protocol.limits import MAX_HEADER_BYTES
from protocol.messages import WIRE_VERSION, FromGateway, Hello, Refusal, Welcome
from protocol.refusal_code import RefusalCode
from protocol.refusal_log import printable
from protocol.security import CurveKeys, load_curve_keys, load_release_public
from protocol.sockets import SocketLimits
from robot_agent.config import AgentConfig
from robot_agent.delivery.outbox import outbox_counts
from robot_agent.learner_connection import LearnerConnection
from robot_agent.learner_keys import LearnerKeys
from robot_agent.robots.check_result import CheckResult, fail, ok, warn

TCP_S = 3.0
HANDSHAKE_S = 5.0
ANSWER_S = 5.0
_ACCEPTED = {RefusalCode.TWO_AGENTS, RefusalCode.RATE}
"""Refusals of a learner that knows this robot's key and name: its agent is connected now."""


def check_network(config: AgentConfig) -> Iterator[CheckResult]:
    """Look at every gateway and at the release server as the agent would reach them.

    The greeting is the agent's own: the learner counts the robot as seen.
    """
    try:
        keys = load_curve_keys(credential_of(config.secret_key))
        learner_keys = LearnerKeys.of_bundle(
            config.learner.public_key,
            verify_key=load_release_public(config.learner.release_key),
            state_folder=config.state_folder,
        )
    except ConfigurationError as error:
        yield fail("network", f"not without keys: {error}", "mend the keys first")
        return
    for endpoint in config.learner.gateways:
        yield _server("gateway", endpoint, config, (keys, learner_keys))
    yield _server("release server", config.learner.releases, config, (keys, learner_keys))


def _server(
    subject: str, endpoint: str, config: AgentConfig, keys: tuple[CurveKeys, LearnerKeys]
) -> CheckResult:
    try:
        connected_ms = _tcp_ms(endpoint)
    except socket.gaierror as error:
        return fail(
            subject,
            f"{endpoint}: the name cannot be resolved: {error.strerror}",
            "correct the endpoint in [learner], or the robot's DNS; an address does as well",
        )
    except OSError as error:
        return fail(
            subject,
            f"{endpoint}: no TCP connection: {error.strerror or error}",
            "is the learner running, and does a firewall let this port through?",
        )
    connection = LearnerConnection(endpoint, *keys, SocketLimits(frame_bytes=MAX_HEADER_BYTES))
    connection.open()
    try:
        if not _is_connected(connection):
            said = connection.refusal or f"{endpoint}: no handshake within {HANDSHAKE_S:.0f} s"
            return fail(
                subject,
                said,
                "enrol the robot on this learner ('fleet enrol'), and copy the bundle anew",
            )
        reached = f"{endpoint}: TCP in {connected_ms:.0f} ms, key accepted"
        if subject != "gateway":
            return ok(subject, reached)
        return _greeted(subject, reached, connection, config)
    finally:
        connection.close()


def _tcp_ms(endpoint: str) -> float:
    """Return how long it takes to resolve the name and to connect, milliseconds."""
    place = urlsplit(endpoint)
    began_s = time.monotonic()
    with socket.create_connection((place.hostname, place.port), timeout=TCP_S):
        return (time.monotonic() - began_s) * 1e3


def _is_connected(connection: LearnerConnection) -> bool:
    end_s = time.monotonic() + HANDSHAKE_S
    while not connection.is_connected and not connection.refusal and time.monotonic() < end_s:
        connection.receive(0.1)
    return connection.is_connected


def _greeted(
    subject: str, reached: str, connection: LearnerConnection, config: AgentConfig
) -> CheckResult:
    """Say what the gateway answers to a greeting."""
    connection.send(_hello(config))
    end_s = time.monotonic() + ANSWER_S
    while time.monotonic() < end_s:
        frames = connection.receive(0.1)
        if frames is None:
            continue
        try:
            answer = decode_message(frames[0], FromGateway)
        except RejectedMessageError as error:
            return fail(subject, f"{reached}, but it answers {error}", "update this robot's agent")
        if isinstance(answer, Welcome):
            return _welcomed(subject, reached, answer)
        if isinstance(answer, Refusal):
            return _refused(subject, reached, answer)
    return fail(
        subject,
        f"{reached}, but no answer to a greeting within {ANSWER_S:.0f} s",
        "is it a gateway's port, not the release server's? Look into the learner's log",
    )


def _welcomed(subject: str, reached: str, welcome: Welcome) -> CheckResult:
    said = f"{reached}, welcome as {welcome.robot_id}, wire version {welcome.wire_version}"
    if welcome.wire_version < WIRE_VERSION:
        return warn(
            subject, f"{said}; this agent speaks {WIRE_VERSION}", "update the learner when it suits"
        )
    return ok(subject, said)


def _refused(subject: str, reached: str, refusal: Refusal) -> CheckResult:
    if refusal.code in _ACCEPTED:
        return ok(subject, f"{reached}; this robot's agent is connected")
    return fail(
        subject,
        f"{reached}, but refused: {printable(refusal.reason)}",
        "'name' in robot.toml must be the one that the robot was enrolled under",
    )


def _hello(config: AgentConfig) -> Hello:
    try:
        counts = outbox_counts(config.state_folder)
        spool_id, written = counts.spool_id, counts.written
    except ConfigurationError:
        # The outbox is begun by the agent's first start.
        spool_id, written = secrets.token_bytes(16), 0
    return Hello(
        wire_version=WIRE_VERSION,
        software_version=version("graspfleet"),
        claimed_name=config.name,
        spool_id=spool_id,
        next_sequence=written + 1,
        process_id=os.urandom(16),
        # Which gateway serves the robot is settled when its agent comes.
        sent_on=True,
    )
