"""A serial port that is a pseudo-terminal, with a device on a thread at its other end.

The drivers open it with pyserial as they open a USB adapter. Its path is a link of its own, as
udev makes them, so that a device that is pulled out and put in again is found under its name.
"""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from tests.waiting import PATIENCE_S

TICK_S = 0.002


class Device(Protocol):
    """What sits at the other end of the cable. Called from one thread."""

    def receive(self, data: bytes, now_s: float) -> bytes:
        """Take what arrived; return the answer, or b"" while there is none."""
        ...

    def tick(self, now_s: float) -> bytes:
        """Let time pass; return what the device says unasked."""
        ...


@dataclass(kw_only=True)
class Faults:
    """What goes wrong with the next answers; each number counts down to zero."""

    silent: int = 0
    """Answers that never come."""
    garbled: int = 0
    """Answers with one bit flipped."""
    noisy: int = 0
    """Answers after bytes that mean nothing."""
    cut: int = 0
    """Answers of which only the first half comes."""

    def apply(self, answer: bytes) -> bytes:
        """Return what arrives instead of ``answer``."""
        if self._takes("silent"):
            return b""
        if self._takes("garbled"):
            at = len(answer) // 2
            return answer[:at] + bytes([answer[at] ^ 0x04]) + answer[at + 1 :]
        if self._takes("noisy"):
            return b"\xa5\x00\xff" + answer
        if self._takes("cut"):
            return answer[: len(answer) // 2]
        return answer

    def _takes(self, name: str) -> bool:
        left = getattr(self, name)
        setattr(self, name, max(0, left - 1))
        return bool(left)


class PtyPort:
    """Serves one device until it is closed; a context manager."""

    def __init__(self, device: Device, path: Path) -> None:
        """Args: ``path`` becomes a link to the pseudo-terminal."""
        self.device = device
        self.path = path
        self.faults = Faults()
        self._lock = threading.Lock()
        self._waiting = threading.Lock()  # an end that is waited for would stay open
        self._ends: tuple[int, int] | None = None
        self._closing = False
        self.plug()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def plug(self) -> None:
        """Put the cable in; the link leads to a new terminal."""
        with self._lock:
            near, far = os.openpty()
            # Raw, and kept open: a terminal without an open end forgets that it is raw.
            tty.setraw(far)
            self._ends = near, far
            fresh = self.path.with_suffix(".new")
            fresh.symlink_to(os.ttyname(far))
            fresh.replace(self.path)

    def unplug(self) -> None:
        """Pull the cable out, in the middle of whatever is said."""
        with self._lock, self._waiting:
            if self._ends is not None:
                self.path.unlink(missing_ok=True)
                for end in self._ends:
                    os.close(end)
                self._ends = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._thread.join(PATIENCE_S)
        self.unplug()

    def _serve(self) -> None:
        while not self._closing:
            with self._lock:
                served = self._serve_once()
            if not served:
                # Outside the lock, so that unplugging gets its turn.
                self._wait()

    def _wait(self) -> None:
        """Wait for bytes, but no longer than until the device's next tick."""
        with self._waiting:
            select.select(self._ends[:1] if self._ends else [], [], [], TICK_S)

    def _serve_once(self) -> bool:
        if self._ends is None:
            self.device.tick(time.monotonic())
            return False
        near = self._ends[0]
        ready, _, _ = select.select([near], [], [], 0)
        try:
            data = os.read(near, 4096) if ready else b""
            answer = self.device.receive(data, time.monotonic()) if data else b""
            if answer:
                answer = self.faults.apply(answer)
            os.write(near, answer + self.device.tick(time.monotonic()))
        except OSError:
            return False
        return bool(ready)
