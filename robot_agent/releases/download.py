"""One release on its way to the robot, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from protocol.errors import RejectedReleaseError
from protocol.messages import Chunk, ChunkRequest, ReleaseAnnouncement, SignedOrder
from protocol.release import MAX_RELEASE_BYTES

MAX_UNDER_WAY = 4
"""Chunks asked for and not yet here: while one is on its way the next are being sent. The server
queues sixteen messages for a robot and drops what is more."""


class ReleaseDownload:
    """The bytes of one release, or of its packing, that have arrived so far.

    They outlive a connection.
    """

    def __init__(
        self,
        announcement: ReleaseAnnouncement,
        chunk_bytes: int,
        *,
        packed_from: int | None = None,
    ) -> None:
        """Begin a download.

        Args:
            announcement: of the release.
            chunk_bytes: asked for at once.
            packed_from: None for the file; otherwise for the packing that is announced, the
                release that it is packed against, or 0.

        Raises:
            RejectedReleaseError: the release is larger than any may be.
        """
        if announcement.size_bytes > MAX_RELEASE_BYTES:
            raise RejectedReleaseError(
                f"release {announcement.version}: {announcement.size_bytes} bytes exceeds"
                f" {MAX_RELEASE_BYTES}"
            )
        self.announcement = announcement
        self.packed_from = packed_from
        self._size_bytes = announcement.size_bytes
        self._requested_bytes = 0
        if packed_from is not None and announcement.packing is not None:
            self._size_bytes = announcement.packing.size_bytes
            self._requested_bytes = min(announcement.packing.follows_bytes, self._size_bytes)
        self._chunk_bytes = chunk_bytes
        self._chunks: list[bytes] = []
        self.received_bytes = 0

    @property
    def complete(self) -> bool:
        """True when every byte is here."""
        return self.received_bytes == self._size_bytes

    @property
    def data(self) -> bytes:
        """The bytes so far."""
        return b"".join(self._chunks)

    def renew_order(self, order: SignedOrder | None) -> None:
        """Take the order of a later announcement of the same release."""
        self.announcement = msgspec.structs.replace(self.announcement, order=order)

    def forget_requests(self) -> None:
        """What was asked for and is not here was lost."""
        self._requested_bytes = self.received_bytes

    def requests_due(self) -> Iterator[ChunkRequest]:
        """Yield requests for what is to be asked for now; each counts as sent once it is taken."""
        while self._requested_bytes < self._size_bytes:
            under_way = self._requested_bytes - self.received_bytes
            if under_way > (MAX_UNDER_WAY - 1) * self._chunk_bytes:
                return
            offset = self._requested_bytes
            length = min(self._chunk_bytes, self._size_bytes - offset)
            self._requested_bytes += length
            yield ChunkRequest(
                version=self.announcement.version,
                offset=offset,
                length=length,
                packed_from=self.packed_from,
            )

    def accept(self, chunk: Chunk, body: bytes) -> bool:
        """Append a chunk; return False for one that is not the next (a repeated answer)."""
        if (
            (chunk.version, chunk.packed_from) != (self.announcement.version, self.packed_from)
            or chunk.offset != self.received_bytes
            or not 0 < len(body) <= self._size_bytes - self.received_bytes
        ):
            return False
        self._chunks.append(body)
        self.received_bytes += len(body)
        self._requested_bytes = max(self._requested_bytes, self.received_bytes)
        return True
