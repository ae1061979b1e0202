"""What half-duplex adapters repeat of our own bytes."""

from __future__ import annotations

UNECHOED_BYTES = 1024
"""An adapter that let so many pass without repeating one does not echo."""


class EchoFilter:
    """Takes the echo of what was sent off the front of what comes back.

    Whether there is one is a property of the adapter: the first answer tells. From then on an
    answer that happens to equal its request is not taken for an echo.
    """

    def __init__(self) -> None:
        self._is_echoing: bool | None = None
        self._awaited = b""
        self._held = b""

    def expect(self, sent: bytes) -> None:
        """These bytes go out now, perhaps before the echo of earlier ones has come."""
        if self._is_echoing is None and len(self._awaited) > UNECHOED_BYTES:
            self._is_echoing = False
        self._awaited = b"" if self._is_echoing is False else self._awaited + sent

    def strip(self, data: bytes) -> bytes:
        """Return what of the bytes that arrived is no echo; b"" while that is not known."""
        if not self._awaited:
            return data
        self._held += data
        if self._held != self._awaited and self._awaited.startswith(self._held):
            return b""
        if self._held.startswith(self._awaited):
            self._is_echoing = True
        rest = self._held.removeprefix(self._awaited)
        self._awaited = self._held = b""
        return rest

    def give_up(self) -> bytes:
        """Wait for no echo any longer; return what began like one and never became one."""
        held = self._held
        self._awaited = self._held = b""
        return held

    def answered(self) -> None:
        """A whole answer came to the request: an adapter that has not echoed by now never does."""
        self._is_echoing = bool(self._is_echoing)
