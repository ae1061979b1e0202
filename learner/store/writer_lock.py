"""One writer for each store: LMDB alone would let two processes take turns in one file.

A second gateway with the same folder would take every record of the first for a copy of its own.
"""

from __future__ import annotations

import errno
import fcntl
import time
from pathlib import Path
from typing import IO

from protocol.errors import ConfigurationError

FILE_NAME = "writer.lock"
_POLL_S = 0.1
_UNAVAILABLE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
WAIT_S = 10.0
"""How long a writer that is ending may take: a learner is often started again right behind it."""


class WriterLock:
    """Held by the process that writes to a folder's store; readers do not ask for it.

    The kernel lets go of it with the process, however that ends. A lock of its own file: LMDB's
    own locks on ``lock.mdb`` may be of the same kind on a network file system.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock of a store.

        Raises:
            ConfigurationError: another process writes to the store, or the file system cannot lock.
            OSError: the folder cannot be written.
        """
        self._file: IO[bytes] = (folder / FILE_NAME).open("ab")
        try:
            self._take(folder)
        except BaseException:
            self._file.close()
            raise

    def release(self) -> None:
        """Let the next writer in."""
        self._file.close()

    def _take(self, folder: Path) -> None:
        end_s = time.monotonic() + WAIT_S
        while not self._is_taken(folder):
            if time.monotonic() > end_s:
                raise _refusal(folder)
            time.sleep(_POLL_S)

    def _is_taken(self, folder: Path) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _UNAVAILABLE:
                raise
            raise ConfigurationError(
                f"episode store {folder}: its file system does not lock files ({error.strerror}), "
                "so nothing would keep two gateways apart: take a folder on a disk of this machine"
            ) from error
        return True


def check_no_writer(folder: Path) -> None:
    """Return if no process writes to a store, or if only opening it will tell.

    Raises:
        ConfigurationError: another process writes to it.
    """
    try:
        with (folder / FILE_NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(folder) from None
    except OSError:
        return


def _refusal(folder: Path) -> ConfigurationError:
    return ConfigurationError(
        f"episode store {folder}: another process writes to it already (`fuser "
        f"{folder / FILE_NAME}` names it); give each gateway a store of its own"
    )
