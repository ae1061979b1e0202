"""Brings the file of an announced release here and verifies it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.errors import RejectedReleaseError
from protocol.messages import Chunk, ReleaseAnnouncement, ReleasePacking
from protocol.release import Release, unpack_release
from protocol.release_packing import MAX_UNPACKED_BYTES, unpack_release_file
from robot_agent.learner_connection import LearnerConnection
from robot_agent.releases.download import ReleaseDownload
from robot_agent.releases.last_good import LastGoodRelease

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchedRelease:
    """A release that is here, of the right signature, and the one announced."""

    announcement: ReleaseAnnouncement
    release: Release
    data: bytes
    """Its file."""


class ReleaseFetcher:
    """One download at a time. Belongs to the thread of its connection.

    A packing is fetched where one is announced that this robot can unpack. When the announced
    bytes do not come out of it, the file itself is fetched.
    """

    def __init__(
        self,
        connection: LearnerConnection,
        *,
        verify_key: Ed25519PublicKey,
        last_good: LastGoodRelease,
        chunk_bytes: int,
    ) -> None:
        """Prepare a fetcher.

        Args:
            connection: to the release server.
            verify_key: the key that releases are signed with.
            last_good: the release in use, which packings may build on.
            chunk_bytes: bytes asked for at once.
        """
        self._connection = connection
        self._verify_key = verify_key
        self._last_good = last_good
        self._chunk_bytes = chunk_bytes
        self._download: ReleaseDownload | None = None
        self._useless_packing_of = b""
        self._abandoned_last = False
        self._is_doubtful = False
        self._subscribed_since_request = False
        self.requested_bytes = 0
        """Bytes asked for since the start, repetitions included."""

    @property
    def announcement(self) -> ReleaseAnnouncement | None:
        """Of the release that is being fetched; None when none is."""
        return None if self._download is None else self._download.announcement

    def note_subscription(self) -> None:
        """Note that a keep-alive was sent; the server answers it with an announcement."""
        self._subscribed_since_request = True

    def fetch(self, announcement: ReleaseAnnouncement) -> None:
        """Begin to fetch a release, or go on with it.

        Raises:
            RejectedReleaseError: it is larger than any may be.
        """
        download = self._download
        if download is None or self._is_doubtful:
            self._begin(announcement)
        elif announcement.digest == download.announcement.digest:
            download.renew_order(announcement.order)
            self._ask_again(download)
        elif self._may_abandon(announcement, download):
            logger.info(
                "release %d abandoned at %d bytes for release %d",
                download.announcement.version,
                download.received_bytes,
                announcement.version,
            )
            self._abandoned_last = True
            self._begin(announcement)
        else:
            self._ask_again(download)

    def doubt(self) -> None:
        """Note that the server has no such bytes: of this release, or of one abandoned before it.

        The next announcement begins anew, unless a chunk of this release comes before it.
        """
        self._is_doubtful = True

    def abandon(self) -> None:
        """Give up the download, if there is one."""
        self._download = None

    def take(self, chunk: Chunk, body: bytes) -> FetchedRelease | None:
        """Take a chunk; return the release when it was the last one.

        Raises:
            RejectedReleaseError: what was fetched is not the release announced, or is not signed
                with the key that this robot trusts.
        """
        download = self._download
        if download is None or not download.accept(chunk, body):
            return None
        self._is_doubtful = False
        if not download.complete:
            self._request(download)
            return None
        self._download = None
        self._abandoned_last = False
        try:
            return self._verified(download)
        except RejectedReleaseError as error:
            if download.packed_from is None:
                raise
            self._fetch_the_file(download.announcement, error)
            return None

    def _begin(self, announcement: ReleaseAnnouncement) -> None:
        self._is_doubtful = False
        packing = announcement.packing
        is_packed = packing is not None and self._can_unpack(announcement, packing)
        self._download = ReleaseDownload(
            announcement,
            self._chunk_bytes,
            packed_from=packing.base_version if packing is not None and is_packed else None,
        )
        self._request(self._download)

    def _can_unpack(self, announcement: ReleaseAnnouncement, packing: ReleasePacking) -> bool:
        return (
            announcement.digest != self._useless_packing_of
            and packing.size_bytes < announcement.size_bytes <= MAX_UNPACKED_BYTES
            and (not packing.base_version or packing.base_digest == self._last_good.digest)
        )

    def _may_abandon(self, announcement: ReleaseAnnouncement, download: ReleaseDownload) -> bool:
        """A slow network finishes every second release, or it would never finish one."""
        rebuilt = announcement.version == download.announcement.version
        return rebuilt or not self._abandoned_last

    def _ask_again(self, download: ReleaseDownload) -> None:
        # ZeroMQ keeps the order within a connection: an answer to a later subscription means
        # that the chunks asked for before it were lost, with their connection or to a full queue.
        if self._subscribed_since_request:
            download.forget_requests()
            self._request(download)

    def _request(self, download: ReleaseDownload) -> None:
        for request in download.requests_due():
            if not self._connection.send(request):
                return
            self.requested_bytes += request.length
            self._subscribed_since_request = False

    def _verified(self, download: ReleaseDownload) -> FetchedRelease:
        announced = download.announcement
        data = download.data
        if download.packed_from is not None:
            base = self._last_good.read() if download.packed_from else None
            data = unpack_release_file(data, announced.size_bytes, base or b"")
        release = unpack_release(data, self._verify_key)
        found = (release.manifest.version, release.digest)
        if found != (announced.version, announced.digest.hex()):
            raise RejectedReleaseError(
                f"release {announced.version} ({announced.digest.hex()[:12]}) was announced,"
                f" but release {found[0]} ({found[1][:12]}) was sent"
            )
        return FetchedRelease(announcement=announced, release=release, data=data)

    def _fetch_the_file(
        self, announcement: ReleaseAnnouncement, error: RejectedReleaseError
    ) -> None:
        logger.warning(
            "release %d does not come out of its packing: %s; the whole file is fetched",
            *(announcement.version, error),
        )
        self._useless_packing_of = announcement.digest
        self._begin(announcement)
