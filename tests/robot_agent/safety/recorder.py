"""The other end of a robot's serial line: notes every line that comes, and when."""

from __future__ import annotations

import os
import threading
import time
import tty
from pathlib import Path
from typing import Self


class Recorder:
    """A pseudo-terminal under a path of its own, such as a USB adapter has; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._near = self._far = -1
        self.lines: list[tuple[float, bytes]] = []
        """With when each came, by the monotonic clock, which all processes share."""
        self.plug()

    def plug(self) -> None:
        """Put the cable in."""
        near, far = os.openpty()
        tty.setraw(far)
        self._near, self._far = near, far
        self._path.symlink_to(os.ttyname(far))
        threading.Thread(target=self._read, args=(near,), daemon=True).start()

    def unplug(self) -> None:
        """Pull the cable out."""
        self._path.unlink()
        os.close(self._far)
        # The thread that reads it closes the near end: what comes until then is lost.
        near, self._near = self._near, -1
        os.set_blocking(near, False)

    def count(self, line: bytes) -> int:
        """Return how often a line came."""
        return sum(one == line for _, one in self.lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._near >= 0:
            self.unplug()

    def _read(self, near: int) -> None:
        rest = b""
        while near == self._near:
            try:
                rest += os.read(near, 4096)
            except BlockingIOError:
                break
            except OSError:
                time.sleep(0.001)
                continue
            now_s = time.monotonic()
            *lines, rest = rest.split(b"\n")
            self.lines += [(now_s, line) for line in lines]
        os.close(near)
