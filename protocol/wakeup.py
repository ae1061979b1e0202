"""Waking a thread that waits in ``zmq.Poller`` from another thread.

ZeroMQ sockets belong to one thread; a file descriptor may be written by any.
"""

from __future__ import annotations

import os


class Wakeup:
    """A flag with a file descriptor: readable from ``set`` until ``clear``."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return what a poller registers."""
        return self._fd

    def set(self) -> None:
        """Wake the waiting thread, now or when it next waits."""
        os.eventfd_write(self._fd, 1)

    def clear(self) -> bool:
        """Take the flag down and say whether it was up; called before looking for work."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give the descriptor back; nobody may call ``set`` any more."""
        os.close(self._fd)
