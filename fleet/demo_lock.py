"""One demo at a time in a run folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.errors import ConfigurationError

LOCK_NAME = ".lock"


@contextmanager
def only_demo_in(root: Path) -> Iterator[None]:
    """Make a run folder where there is none, and keep every other demo out of it meanwhile.

    The file stays, the lock on it does not: the kernel takes it off whatever ends this process.

    Raises:
        ConfigurationError: another demo runs there, or the folder cannot be written to.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / LOCK_NAME).open("ab")
    except OSError as error:
        raise ConfigurationError(f"{root}: no place for a run: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"{root}: a demo runs in this folder; wait for its end, or give another --out"
            ) from error
        yield
