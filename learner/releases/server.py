"""Announces releases to the robots and serves them in chunks, on a socket of its own.

Its own, because four megabytes on the way to a robot must not delay the acks of episodes.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from learner.releases.catalogue import ReleaseCatalogue
from learner.releases.desk import ReleaseDesk
from learner.releases.subscribers import ReleaseSubscribers, Subscriber
from protocol.authentication import RegistryAuthenticator
from protocol.codec import decode_message, encode_message
from protocol.errors import ConfigurationError, RejectedMessageError
from protocol.limits import MAX_HEADER_BYTES, MESSAGES_PER_S
from protocol.message_rate import MessageRate
from protocol.messages import (
    Chunk,
    ChunkRequest,
    FromReleaseServer,
    Refusal,
    ReleaseListRequest,
    ReleasePacking,
    ReleasePin,
    ReleaseSubscription,
    ToReleaseServer,
)
from protocol.refusal_code import RefusalCode
from protocol.refusal_log import STRANGER, RefusalLog
from protocol.registry import Member, Registry
from protocol.server_key import ServerKey
from protocol.server_socket import ServerSocket
from protocol.sockets import SocketLimits, drop_rest
from protocol.wakeup import Wakeup

logger = logging.getLogger(__name__)

_BATCH = 64
"""Requests answered before the server looks up for a new release."""
# A peer that asks without reading loses answers instead of filling the learner's memory.
_LIMITS = SocketLimits(frame_bytes=MAX_HEADER_BYTES, send_queue=16)


class ReleaseServer:
    """A thread that owns the release socket."""

    def __init__(
        self,
        *,
        endpoint: str,
        server_secret: Path,
        registry: Registry,
        folder: Path,
        keep: int,
        signing_key: Ed25519PrivateKey,
    ) -> None:
        """Prepare a server; ``start`` loads the newest release and binds.

        Args:
            endpoint: ``tcp://host:port`` to listen at.
            server_secret: file of the learner's CURVE secret; looked at again while it runs.
            registry: who may fetch, and who may pin.
            folder: where release files and pins are kept.
            keep: how many release files, beside the pinned ones.
            signing_key: signs orders; robots verify them and the releases with its public half.

        Raises:
            ConfigurationError: the secret is missing, open to others, or no key.
        """
        self.endpoint = endpoint
        self.catalogue = ReleaseCatalogue(folder, keep, signing_key)
        self._registry = registry
        self._refusals = RefusalLog(logger)
        self._rate = MessageRate()
        self._subscribers = ReleaseSubscribers()
        self._desk = ReleaseDesk(self.catalogue, self._subscribers, registry)
        self._warned_of: set[tuple[str, int]] = set()
        self._wakeup = Wakeup()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="release-server", daemon=True)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = RegistryAuthenticator(self._context, registry, self._refusals)
        self._socket = ServerSocket(
            self._context, ServerKey(server_secret), _LIMITS, self._refusals
        )

    @property
    def current_version(self) -> int:
        """Version of the newest release; 0 before the first one."""
        return self.catalogue.current_version

    @property
    def highest_version(self) -> int:
        """Highest version that is here or that a robot said it has. Robots refuse older ones.

        A learner that lost its releases learns from its robots how far it had counted.
        """
        return max(self.current_version, self._subscribers.highest_version)

    @property
    def peers(self) -> int:
        """Robots' connections heard of within FORGET_AFTER_S."""
        return len(self._subscribers)

    def start(self) -> None:
        """Load the newest release and the pins from disk, listen, and begin to serve.

        Raises:
            ConfigurationError: the port is in use, the endpoint malformed, or the pins damaged.
        """
        self.catalogue.load()
        self._authenticator.start()
        try:
            self.endpoint = self._socket.open(self.endpoint)
        except ConfigurationError:
            self._end_context()
            raise
        self._thread.start()
        logger.info("releases served at %s, current is %d", self.endpoint, self.current_version)

    def publish(self, data: bytes) -> None:
        """Make a release current and announce it; callable from any thread.

        Raises:
            RejectedReleaseError: robots would refuse it: not signed by the release key, damaged,
                or not newer than the current one. The current one itself is no error.
        """
        self.catalogue.publish(data, announce=self._wakeup.set)

    def join(self) -> None:
        """Wait until the server has ended, by ``close`` or by an error of its own."""
        self._thread.join()

    def close(self) -> None:
        """Stop serving. May be called twice, and without ``start``."""
        if self._thread.is_alive():
            self._stopping.set()
            self._wakeup.set()
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                has_requests = self._socket.wait(1.0, self._wakeup)
                if self._wakeup.clear():
                    self._announce_to_all(is_news=True)
                if has_requests:
                    self._answer_requests()
                self._subscribers.forget_silent()
                self._socket.tend()
        except Exception:
            logger.critical("the release server ended by an error of its own", exc_info=True)
            raise
        finally:
            self._socket.close()
            self._end_context()

    def _end_context(self) -> None:
        self._authenticator.stop()
        self._context.term()

    def _announce_to_all(self, *, is_news: bool) -> None:
        for route, subscriber in self._subscribers.all():
            if self._who(subscriber.public_key)[0] is None:
                # Revoked while connected: its connection stays, but it is told nothing more.
                self._subscribers.forget(route)
            else:
                self._announce(route, subscriber, is_news=is_news)

    def _announce(self, route: bytes, subscriber: Subscriber, *, is_news: bool = False) -> None:
        offer = self.catalogue.offer(subscriber.robot_id)
        if offer is None:
            return
        if offer.order is not None and subscriber.cannot_use(offer):
            self._warn_once(subscriber, offer.version)
            return
        offer = self.catalogue.with_packing(offer, subscriber.have_version, is_news=is_news)
        offer = subscriber.as_understood(offer)
        self._send(route, offer)
        if offer.packing is not None and offer.packing.follows_bytes:
            self._push(route, offer.version, offer.packing)

    def _push(self, route: bytes, version: int, packing: ReleasePacking) -> None:
        base = packing.base_version
        body = self.catalogue.read(version, 0, packing.follows_bytes, base)
        if body:
            self._send(route, Chunk(version=version, offset=0, packed_from=base), body)

    def _warn_once(self, subscriber: Subscriber, version: int) -> None:
        if (subscriber.robot_id, version) in self._warned_of:
            return
        self._warned_of.add((subscriber.robot_id, version))
        logger.warning(
            "%s speaks wire version %d and cannot go back from release %d to %d; it keeps what "
            "it has until its agent is updated",
            subscriber.robot_id,
            subscriber.wire_version,
            subscriber.have_version,
            version,
        )

    def _answer_requests(self) -> None:
        for _ in range(_BATCH):
            try:
                route = self._socket.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            header = self._socket.socket.recv(zmq.NOBLOCK, copy=False)
            if header.more:
                drop_rest(self._socket.socket)
            self._answer(route, header)

    def _answer(self, route: bytes, header: zmq.Frame) -> None:
        key = str(header.get("User-Id"))
        member, reason = self._who(key)
        if not self._rate.admits(key):
            if self._rate.must_be_told(key):
                reason = f"more than {MESSAGES_PER_S} requests a second; what is above is dropped"
                self._refuse(route, member, Refusal(code=RefusalCode.RATE, reason=reason))
            return
        if member is None:
            self._subscribers.forget(route)
            self._refuse(route, member, Refusal(code=RefusalCode.NOT_ENROLLED, reason=reason[:512]))
            return
        try:
            message = _request_in(header)
        except RejectedMessageError as error:
            reason = f"{member.name}: {error}"
            self._refuse(route, member, Refusal(code=RefusalCode.MALFORMED, reason=reason[:512]))
            return
        if isinstance(message, ReleaseSubscription):
            subscriber = self._subscribers.note(
                route,
                message,
                robot_id=member.name,
                public_key=key,
                current_version=self.current_version,
            )
            self._announce(route, subscriber)
        elif isinstance(message, ChunkRequest):
            self._answer_chunk_request(route, member, message)
        else:
            self._answer_operator(route, member, message)

    def _who(self, key: str) -> tuple[Member | None, str]:
        """Return who holds ``key`` (Z85), or None and why nobody who may speak does."""
        try:
            member = self._registry.member_for_key(key)
            return member, "" if member else self._registry.refusal_reason(key)
        except ConfigurationError as error:
            return None, str(error)

    def _answer_operator(
        self, route: bytes, member: Member, message: ReleaseListRequest | ReleasePin
    ) -> None:
        answer = self._desk.answer(member, message)
        if isinstance(answer, Refusal):
            self._refuse(route, member, answer)
            return
        if isinstance(message, ReleasePin):
            self._announce_to_all(is_news=False)
        self._send(route, answer)

    def _answer_chunk_request(self, route: bytes, member: Member, request: ChunkRequest) -> None:
        version, offset, packed_from = request.version, request.offset, request.packed_from
        body = self.catalogue.read(version, offset, request.length, packed_from)
        if body:
            self._send(route, Chunk(version=version, offset=offset, packed_from=packed_from), body)
            return
        if body is None:
            code = RefusalCode.RELEASE_NOT_SERVED
            form = "" if packed_from is None else f", packed against {packed_from},"
            current = self.current_version
            reason = f"release {version}{form} is not served (any more); current is {current}"
        else:
            code, reason = RefusalCode.OUT_OF_RANGE, f"release {version} has no bytes at {offset}"
        self._refuse(route, member, Refusal(code=code, reason=reason))

    def _refuse(self, route: bytes, member: Member | None, refusal: Refusal) -> None:
        self._refusals.warn(member.name if member else STRANGER, refusal.code, refusal.reason)
        self._send(route, refusal)

    def _send(self, route: bytes, message: FromReleaseServer, *body: memoryview) -> None:
        frames: list[bytes | memoryview] = [route, encode_message(message), *body]
        # Large bodies are not copied: one buffer serves every robot.
        self._socket.socket.send_multipart(frames, zmq.NOBLOCK, copy=False)


def _request_in(header: zmq.Frame) -> ToReleaseServer:
    """Return what a peer asks for; nothing it may ask for has a body.

    Raises:
        RejectedMessageError: it is no request, or has more frames than its header.
    """
    if header.more:
        raise RejectedMessageError("a request with a body; it is a header alone")
    request: ToReleaseServer = decode_message(header.bytes, ToReleaseServer)
    return request
