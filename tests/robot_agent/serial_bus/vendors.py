"""The vendors' own code as an oracle: what it sends, and how long it waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PATIENCE_MS = 500.0
"""Their time for an answer is meant for hardware; a thread on a busy machine needs more."""


class SendsOnly:
    """What their packet handlers take for a port: keeps what is written, and answers nothing."""

    def __init__(self) -> None:
        self.written = b""
        self.is_using = False

    def writePort(self, packet: list[int]) -> int:  # noqa: N802 - theirs
        self.written += bytes(packet)
        return len(packet)

    def readPort(self, length: int) -> bytes:  # noqa: N802
        return b""

    def clearPort(self) -> None:  # noqa: N802
        pass

    def setPacketTimeout(self, length: int) -> None:  # noqa: N802
        pass

    def isPacketTimeout(self) -> bool:  # noqa: N802
        return True


def sent_by(ask: Callable[[SendsOnly], object]) -> bytes:
    """Return the bytes that the vendor's code sends."""
    port = SendsOnly()
    ask(port)
    return port.written


def patient(handler_class: Any) -> Any:
    """Return their port handler with more time for an answer."""

    class Patient(handler_class):
        def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
            super().setPacketTimeout(packet_length)
            self.packet_timeout += PATIENCE_MS

    return Patient
