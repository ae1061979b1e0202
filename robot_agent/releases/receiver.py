"""Fetches releases in the background and offers the one to use between episodes."""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.codec import decode_message
from protocol.errors import RejectedMessageError, RejectedReleaseError
from protocol.hand_eye import HandEyeMap
from protocol.limits import MAX_HEADER_BYTES
from protocol.messages import (
    WIRE_VERSION,
    Chunk,
    FromReleaseServer,
    Refusal,
    ReleaseAnnouncement,
    ReleaseSubscription,
)
from protocol.refusal_code import RefusalCode
from protocol.refusal_log import printable
from protocol.release import Release, unpack_release
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits
from protocol.wakeup import Wakeup
from robot_agent.learner_connection import LearnerConnection
from robot_agent.learner_keys import LearnerKeys
from robot_agent.policy.q_function import QFunction
from robot_agent.releases.fetcher import FetchedRelease, ReleaseFetcher
from robot_agent.releases.last_good import FILE_NAME, LastGoodRelease
from robot_agent.releases.orders import ReleaseOrders
from robot_agent.releases.refused_offers import RefusedOffers

logger = logging.getLogger(__name__)

MAX_CHUNK_BYTES = 4 * 2**20
_AFTER_ERROR_S = 1.0
_NO_SUCH_BYTES = {RefusalCode.RELEASE_NOT_SERVED, RefusalCode.OUT_OF_RANGE}
"""What the server says when a download cannot go on, be it one that was abandoned meanwhile; after
any other refusal it can."""


class ReleaseReceiver:
    """A thread between the release server and the agent.

    The last good release is kept on disk: a robot grasps with it while the learner is away. A
    release that is forged, damaged, made for pictures of another size, or does not work on this
    robot is refused; one that is older needs a signed order of the operator (see release_orders).
    """

    def __init__(
        self,
        *,
        endpoint: str,
        keys: CurveKeys,
        learner_keys: LearnerKeys,
        verify_key: Ed25519PublicKey,
        state_folder: Path,
        robot_id: str,
        calibration: HandEyeMap,
        height_px: int,
        width_px: int,
        joint_calibration: str = "",
        chunk_bytes: int = 256 * 2**10,
        subscribe_every_s: float = 2.0,
    ) -> None:
        """Prepare a receiver; ``start`` loads the last good release and begins to listen.

        Args:
            endpoint: ``tcp://host:port`` of the release server.
            keys: the robot's CURVE keys.
            learner_keys: the learner's CURVE public keys.
            verify_key: the key that releases are signed with.
            state_folder: where the last good release is kept, as ``release``, and the last order
                obeyed, as ``release-order``.
            robot_id: the robot's name, under which releases carry its refined map.
            calibration: the robot's own hand-eye map.
            height_px: height of the camera's pictures.
            width_px: their width.
            joint_calibration: sha256 hex of joints and gripper as they were calibrated, for the
                policy's identity; "" where there is no such thing.
            chunk_bytes: bytes asked for at once, at most MAX_CHUNK_BYTES.
            subscribe_every_s: time between keep-alives.
        """
        self._wakeup = Wakeup()
        self._connection = LearnerConnection(
            endpoint,
            keys,
            learner_keys,
            SocketLimits(frame_bytes=MAX_CHUNK_BYTES + MAX_HEADER_BYTES),
            wakeup=self._wakeup,
        )
        self._verify_key = verify_key
        self._last_good = LastGoodRelease(state_folder / FILE_NAME)
        self._orders = ReleaseOrders(state_folder / "release-order", verify_key, robot_id)
        self._robot_id = robot_id
        self._calibration = calibration
        self._joint_calibration = joint_calibration
        self._fetcher = ReleaseFetcher(
            self._connection,
            verify_key=verify_key,
            last_good=self._last_good,
            chunk_bytes=min(chunk_bytes, MAX_CHUNK_BYTES),
        )
        self._image_size = (height_px, width_px)
        self._subscribe_every_s = subscribe_every_s

        self.version = 0
        """Version of the last good release; 0 for none."""
        self.refused = 0
        """Releases refused since the start."""
        self.last_refusal = ""
        """Why the newest release offered is not in use, in words; "" when it is."""
        self._server_refusal = ""
        self._newest: QFunction | None = None
        self._newest_lock = threading.Lock()
        self._subscribe_at = 0.0
        self._refused_offers = RefusedOffers()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="release-receiver", daemon=True)

    @property
    def trouble(self) -> str:
        """Why newer releases cannot come into use, in words for a person; "" when all is well."""
        is_started = self._thread.ident is not None
        if is_started and not self.alive and not self._stopping.is_set():
            return "no release is received any more: start the agent again"
        return self.connection_refusal or self._server_refusal or self.last_refusal

    @property
    def requested_bytes(self) -> int:
        """Bytes of releases asked for since the start, repetitions included."""
        return self._fetcher.requested_bytes

    @property
    def connection_refusal(self) -> str:
        """Why the release server does not let this robot in; "" when it does."""
        return self._connection.refusal

    @property
    def alive(self) -> bool:
        """False once the thread has ended, for whatever reason."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Load the last good release from disk and begin to listen for others."""
        self._orders.load()
        self._load_last_good()
        self._thread.start()

    def take_newest(self) -> QFunction | None:
        """Return the newest good release if there is one since the last call, else None."""
        with self._newest_lock:
            newest, self._newest = self._newest, None
        return newest

    def close(self) -> None:
        """Stop listening. May be called twice, and without ``start``."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wakeup.set()
        if self._thread.is_alive():
            self._thread.join()
        self._wakeup.close()

    def _load_last_good(self) -> None:
        data = self._last_good.read()
        if data is None:
            return
        try:
            release = unpack_release(data, self._verify_key)
            self._last_good.digest = bytes.fromhex(release.digest)
            self._offer(self._load(release))
        except RejectedReleaseError as error:
            self._count_refusal(f"last good release {self._last_good.file}: {error}")

    def _run(self) -> None:
        try:
            self._connection.open()
            while not self._stopping.is_set():
                self._turn_guarded()
        except Exception:
            logger.critical("the release receiver ended by an error of its own", exc_info=True)
            raise
        finally:
            self._connection.close()

    def _turn_guarded(self) -> None:
        try:
            self._turn()
        except Exception:
            # No error may end the robot's learning; the release is announced again.
            logger.exception("releases: begins anew in %.0f s", _AFTER_ERROR_S)
            self._fetcher.abandon()
            self._stopping.wait(_AFTER_ERROR_S)

    def _turn(self) -> None:
        self._subscribe_if_due()
        due_s = self._subscribe_at if self._connection.is_connected else math.inf
        wait_s = min(self._subscribe_every_s, max(0.0, due_s - time.monotonic()))
        frames = self._connection.receive(wait_s)
        if frames is not None:
            self._handle(frames)

    def _subscribe_if_due(self) -> None:
        now_s = time.monotonic()
        if not self._connection.is_connected or now_s < self._subscribe_at:
            return
        self._subscribe_at = now_s + self._subscribe_every_s
        subscription = ReleaseSubscription(have_version=self.version, wire_version=WIRE_VERSION)
        # A server that has no release yet has nothing to announce.
        if self._connection.send(subscription, is_answered=self.version > 0):
            self._fetcher.note_subscription()

    def _handle(self, frames: list[bytes]) -> None:
        try:
            message = decode_message(frames[0], FromReleaseServer)
        except RejectedMessageError as error:
            logger.warning("message of the release server refused: %s", printable(str(error)))
            return
        if isinstance(message, ReleaseAnnouncement):
            self._handle_announcement(message)
        elif isinstance(message, Chunk):
            self._server_refusal = ""
            self._handle_chunk(message, frames[-1])
        elif isinstance(message, Refusal):
            self._take_refusal(message)

    def _take_refusal(self, refusal: Refusal) -> None:
        reason = f"the release server refused ({refusal.code}): {refusal.reason}"
        if reason != self._server_refusal:
            logger.warning("%s", printable(reason))
        self._server_refusal = reason
        if refusal.code in _NO_SUCH_BYTES:
            self._fetcher.doubt()

    def _handle_announcement(self, announcement: ReleaseAnnouncement) -> None:
        if announcement.version == self.version:
            self._stay(announcement)
        elif announcement not in self._refused_offers and self._may_use(announcement):
            self._fetch(announcement)

    def _stay(self, announcement: ReleaseAnnouncement) -> None:
        self._server_refusal = ""
        if (fetching := self._fetcher.announcement) is not None:
            logger.info(
                "release %d abandoned, release %d shall stay", fetching.version, self.version
            )
            self._fetcher.abandon()
        if self._last_good.is_current:
            self._orders.note(announcement)

    def _may_use(self, announcement: ReleaseAnnouncement) -> bool:
        if announcement.version > self.version:
            return True
        try:
            self._orders.check(announcement)
        except RejectedReleaseError as error:
            reason = f"release {announcement.version}: older than {self.version}, which is in use"
            self._refused_offers.add_offer(announcement)
            self._count_refusal(f"{reason}; {error}")
            return False
        return True

    def _fetch(self, announcement: ReleaseAnnouncement) -> None:
        try:
            self._fetcher.fetch(announcement)
        except RejectedReleaseError as error:
            self._refuse(announcement, str(error))

    def _handle_chunk(self, chunk: Chunk, body: bytes) -> None:
        announced = self._fetcher.announcement
        if announced is None:
            return
        try:
            fetched = self._fetcher.take(chunk, body)
        except RejectedReleaseError as error:
            self._refuse(announced, str(error))
            self._subscribe_at = 0.0
            return
        if fetched is not None:
            self._finish(fetched)
            self._subscribe_at = 0.0

    def _finish(self, fetched: FetchedRelease) -> None:
        announced = fetched.announcement
        try:
            q_function = self._load(fetched.release)
        except RejectedReleaseError as error:
            self._refuse(announced, str(error))
            return
        except Exception as error:
            # Fetching it again with every announcement would not mend an error of our own.
            logger.exception("release %d cannot be used", announced.version)
            self._refuse(announced, f"release {announced.version}: {error!r}")
            return
        self._last_good.write(fetched.data, announced.digest)
        self._offer(q_function)
        if self._last_good.is_current:
            # After the release itself: with the order alone on disk, a restarted robot would
            # neither have the release nor obey the order again.
            self._orders.note(announced)

    def _load(self, release: Release) -> QFunction:
        self._check_image_size(release)
        return QFunction(
            release,
            robot_id=self._robot_id,
            calibration=self._calibration,
            joint_calibration=self._joint_calibration,
        )

    def _check_image_size(self, release: Release) -> None:
        manifest = release.manifest
        needed = (manifest.image_height_px, manifest.image_width_px)
        if needed != self._image_size:
            raise RejectedReleaseError(
                f"release {manifest.version}: needs pictures of {needed[1]}x{needed[0]} px, but"
                f" this robot's camera gives {self._image_size[1]}x{self._image_size[0]};"
                " set camera.width_px and camera.height_px to it"
            )

    def _offer(self, q_function: QFunction) -> None:
        with self._newest_lock:
            self._newest = q_function
            self.last_refusal = ""
            self.version = q_function.version
        logger.info("release %d is ready", q_function.version)

    def _refuse(self, announcement: ReleaseAnnouncement, reason: str) -> None:
        """Refuse a release once and for all."""
        self._refused_offers.add_release(announcement)
        self._count_refusal(reason)

    def _count_refusal(self, reason: str) -> None:
        self.refused += 1
        self.last_refusal = reason
        logger.warning("release refused, release %d stays: %s", self.version, printable(reason))
