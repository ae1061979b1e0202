"""Packets out of a stream of bytes, whatever else is in it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple


class StatusPacket(NamedTuple):
    """What a motor answered."""

    servo_id: int
    error: int
    """What it complains of, as its protocol says it; 0 for nothing."""
    parameters: bytes
    wire_bytes: int
    """Length of the whole packet."""


class NoPacket(Enum):
    """Why no packet begins here."""

    INCOMPLETE = "more bytes are needed to know"
    NOT_A_STATUS = "the bytes cannot be a status packet"
    WRONG_CHECKSUM = "the checksum is wrong"


ParseStatus = Callable[[bytes, int], StatusPacket | NoPacket]
"""Reads the packet that begins at an offset, where the protocol's header is."""


class PacketStream:
    """Cuts status packets out of what arrives, and finds the next one after anything else."""

    def __init__(self, header: bytes, parse: ParseStatus) -> None:
        self.checksum_errors = 0
        self.garbage_bytes = 0
        self._header = header
        self._parse = parse
        self._pending = b""

    def feed(self, data: bytes, *, is_last: bool = False) -> list[StatusPacket]:
        """Take what arrived and return the packets that are whole now.

        With ``is_last`` nothing more comes: what only looks like the beginning of a packet is
        garbage then, and may hide whole ones.
        """
        data = self._pending + data
        packets = []
        at = 0
        while (start := data.find(self._header, at)) >= 0:
            self.garbage_bytes += start - at
            found = self._parse(data, start)
            if isinstance(found, StatusPacket):
                packets.append(found)
                at = start + found.wire_bytes
            elif found is NoPacket.INCOMPLETE and not is_last:
                self._pending = data[start:]
                return packets
            else:
                self.checksum_errors += found is NoPacket.WRONG_CHECKSUM
                self.garbage_bytes += 1
                at = start + 1
        keep = 0 if is_last else self._header_begun(data, at)
        self.garbage_bytes += len(data) - at - keep
        self._pending = data[len(data) - keep :]
        return packets

    def _header_begun(self, data: bytes, at: int) -> int:
        """Return how many of the last bytes may be the beginning of a header."""
        longest = min(len(self._header) - 1, len(data) - at)
        return next((n for n in range(longest, 0, -1) if data.endswith(self._header[:n])), 0)
