"""One release on its way to the robot, chunk by chunk."""

from __future__ import annotations

import msgspec

from protocol.errors import RejectedReleaseError
from protocol.messages import Chunk, ChunkRequest, ReleaseAnnouncement, SignedOrder
from protocol.release import MAX_RELEASE_BYTES


class ReleaseDownload:
    """The bytes of one release that have arrived so far; they outlive a connection."""

    def __init__(self, announcement: ReleaseAnnouncement, chunk_bytes: int) -> None:
        """Begin a download.

        Raises:
            RejectedReleaseError: the release is larger than any may be.
        """
        if announcement.size_bytes > MAX_RELEASE_BYTES:
            raise RejectedReleaseError(
                f"release {announcement.version}: {announcement.size_bytes} bytes exceeds"
                f" {MAX_RELEASE_BYTES}"
            )
        self.announcement = announcement
        self._chunk_bytes = chunk_bytes
        self._data = bytearray()

    @property
    def complete(self) -> bool:
        """True when every byte is here."""
        return len(self._data) == self.announcement.size_bytes

    @property
    def data(self) -> bytes:
        """The bytes so far."""
        return bytes(self._data)

    @property
    def received_bytes(self) -> int:
        """How many bytes are here."""
        return len(self._data)

    def renew_order(self, order: SignedOrder | None) -> None:
        """Take the order of a later announcement of the same release."""
        self.announcement = msgspec.structs.replace(self.announcement, order=order)

    def next_request(self) -> ChunkRequest:
        """Return the request for the next missing bytes; there must be some."""
        missing = self.announcement.size_bytes - len(self._data)
        return ChunkRequest(
            version=self.announcement.version,
            offset=len(self._data),
            length=min(self._chunk_bytes, missing),
        )

    def accept(self, chunk: Chunk, body: bytes) -> bool:
        """Append a chunk; return False for one that is not the next (a repeated answer)."""
        missing = self.announcement.size_bytes - len(self._data)
        if (
            chunk.version != self.announcement.version
            or chunk.offset != len(self._data)
            or not 0 < len(body) <= missing
        ):
            return False
        self._data += body
        return True
