"""TCP ports for what a test starts, none of which anybody takes before it is used."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import tempfile
from pathlib import Path

from protocol.ports import bind_error

# Above those that Linux gives outgoing connections, and those that the product takes for itself: a
# client that tries such a port again and again, before its server is there, never meets itself.
_PORTS = range(61_000, 65_536)
_claimed: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on, and that no other process of tests is given.

    It is this process's as long as it lives, so that a learner may take its time to bind it.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        if port not in _claimed and _claim(port) and bind_error(port) is None:
            _claimed.add(port)
            return port
    raise RuntimeError(f"no free TCP port from {_PORTS.start} to {_PORTS.stop - 1}")


def _claim(port: int) -> bool:
    """Lock the port's byte of a file that all share; the lock ends with this process."""
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


@functools.cache
def _claims() -> int:
    path = Path(tempfile.gettempdir()) / f"graspfleet-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
