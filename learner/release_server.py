"""Announces releases to the robots and serves them in chunks, on a socket of its own.

Its own, because four megabytes on the way to a robot must not delay the acks of episodes.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from learner.release_folder import ReleaseFolder
from protocol.authentication import RegistryAuthenticator
from protocol.codec import decode_message, encode_message
from protocol.errors import ConfigurationError, RejectedMessageError, RejectedReleaseError
from protocol.limits import MAX_HEADER_BYTES
from protocol.messages import (
    Chunk,
    ChunkRequest,
    FromReleaseServer,
    Refusal,
    ReleaseAnnouncement,
    ToReleaseServer,
)
from protocol.registry import Registry
from protocol.release import Release, unpack_release
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits, bind, make_router
from protocol.wakeup import Wakeup

logger = logging.getLogger(__name__)

FORGET_AFTER_S = 60.0
"""A peer silent for so long is announced nothing any more."""
_SERVED = 3
"""Releases served: the current one, and those that slow robots are still fetching."""
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
        keys: CurveKeys,
        registry: Registry,
        folder: Path,
        keep: int,
        verify_key: Ed25519PublicKey,
    ) -> None:
        """Prepare a server; ``start`` loads the newest release and binds.

        Args:
            endpoint: ``tcp://host:port`` to listen at.
            keys: the learner's CURVE keys.
            registry: who may fetch.
            folder: where release files are kept.
            keep: how many of them.
            verify_key: what robots verify releases with.
        """
        self.endpoint = endpoint
        self._keys = keys
        self._registry = registry
        self._folder = ReleaseFolder(folder, keep)
        self._verify_key = verify_key
        self._releases: dict[int, bytes] = {}
        self._announcement: ReleaseAnnouncement | None = None
        self._seen_at: dict[bytes, float] = {}
        self._wakeup = Wakeup()
        self._stopping = threading.Event()
        self._publishing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="release-server", daemon=True)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = RegistryAuthenticator(self._context, registry)

    @property
    def current_version(self) -> int:
        """Version of the current release; 0 before the first one."""
        announcement = self._announcement
        return 0 if announcement is None else announcement.version

    @property
    def peers(self) -> int:
        """Connections heard of within FORGET_AFTER_S."""
        return len(self._seen_at)

    @property
    def alive(self) -> bool:
        """False once the thread has ended, for whatever reason."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Load the newest release from disk, listen, and begin to serve.

        Raises:
            ConfigurationError: the port is in use or the endpoint malformed.
        """
        stored = self._folder.newest(self._verify_key)
        if stored is not None:
            self._make_current(*stored)
        self._authenticator.start()
        self._socket = make_router(self._context, self._keys, _LIMITS)
        try:
            self.endpoint = bind(self._socket, self.endpoint)
        except ConfigurationError:
            self._close_sockets()
            raise
        self._thread.start()
        logger.info("releases served at %s, current is %d", self.endpoint, self.current_version)

    def publish(self, data: bytes) -> None:
        """Make a release current and announce it; callable from any thread.

        Raises:
            RejectedReleaseError: robots would refuse it: not signed by the release key, damaged,
                or not newer than the current one. The current one itself is no error.
        """
        with self._publishing:
            release = unpack_release(data, self._verify_key)
            version = release.manifest.version
            if data == self._releases.get(self.current_version):
                return
            if version <= self.current_version:
                raise RejectedReleaseError(
                    f"release {version}: not newer than the current one, {self.current_version}"
                )
            try:
                self._folder.store(version, data)
            except ConfigurationError as error:
                # The fleet learns on; only a restarted learner would begin with an older one.
                logger.warning("release %d is announced but not kept on disk: %s", version, error)
            self._make_current(release, data)
            self._wakeup.set()

    def join(self) -> None:
        """Wait until the server has ended, by ``close`` or by an error of its own."""
        self._thread.join()

    def close(self) -> None:
        """Stop serving. May be called twice, and without ``start``."""
        if self._thread.is_alive():
            self._stopping.set()
            self._wakeup.set()
            self._thread.join()

    def _make_current(self, release: Release, data: bytes) -> None:
        version = release.manifest.version
        served = sorted({*self._releases, version})[-_SERVED:]
        # Replaced as a whole: the server's thread reads it without a lock.
        self._releases = {key: self._releases.get(key, data) for key in served}
        self._announcement = ReleaseAnnouncement(
            version=version, digest=bytes.fromhex(release.digest), size_bytes=len(data)
        )

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeup.fileno(), zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(1_000))
                if self._wakeup.fileno() in ready:
                    self._wakeup.clear()
                    self._announce_to_all()
                if self._socket in ready:
                    self._answer_requests()
                self._forget_the_silent()
        except Exception:
            logger.critical("the release server ended by an error of its own", exc_info=True)
            raise
        finally:
            self._close_sockets()

    def _close_sockets(self) -> None:
        self._socket.close(linger=0)
        self._authenticator.stop()
        self._context.term()

    def _announce_to_all(self) -> None:
        announcement = self._announcement
        if announcement is not None:
            for peer in self._seen_at:
                self._send(peer, announcement)

    def _answer_requests(self) -> None:
        for _ in range(_BATCH):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._answer(frames)

    def _answer(self, frames: list[zmq.Frame]) -> None:
        peer = frames[0].bytes
        key = str(frames[-1].get("User-Id"))
        reason = self._reason_to_refuse(key)
        if reason:
            # Revoked while connected: its connection stays, but it is told nothing more.
            self._seen_at.pop(peer, None)
            self._refuse(peer, "not-enrolled", reason)
            return
        self._seen_at[peer] = time.monotonic()
        try:
            message = decode_message(frames[-1].bytes, ToReleaseServer)
        except RejectedMessageError as error:
            self._refuse(peer, "malformed", str(error))
            return
        if isinstance(message, ChunkRequest):
            self._answer_chunk_request(peer, message)
        elif self._announcement is not None:
            self._send(peer, self._announcement)

    def _reason_to_refuse(self, key: str) -> str:
        """Return why the holder of ``key`` (Z85) may not fetch releases; "" when it may."""
        try:
            if self._registry.member_for_key(key) is not None:
                return ""
            return self._registry.refusal_reason(key)
        except ConfigurationError as error:
            return str(error)

    def _answer_chunk_request(self, peer: bytes, request: ChunkRequest) -> None:
        data = self._releases.get(request.version)
        if data is None:
            self._refuse(
                peer,
                "release-not-served",
                f"release {request.version} is not served (any more);"
                f" current is {self.current_version}",
            )
        elif request.offset >= len(data):
            self._refuse(
                peer,
                "out-of-range",
                f"release {request.version} has {len(data)} bytes, none at {request.offset}",
            )
        else:
            body = data[request.offset : request.offset + request.length]
            self._send(peer, Chunk(version=request.version, offset=request.offset), body)

    def _refuse(self, peer: bytes, code: str, reason: str) -> None:
        logger.warning("release request refused (%s): %s", code, reason)
        self._send(peer, Refusal(code=code, reason=reason[:512]))

    def _send(self, peer: bytes, message: FromReleaseServer, *body: bytes) -> None:
        self._socket.send_multipart([peer, encode_message(message), *body], zmq.NOBLOCK)

    def _forget_the_silent(self) -> None:
        limit = time.monotonic() - FORGET_AFTER_S
        for peer in [peer for peer, seen_at in self._seen_at.items() if seen_at < limit]:
            del self._seen_at[peer]
