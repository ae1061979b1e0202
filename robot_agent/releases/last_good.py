"""The release that a robot goes on with after a restart, while the learner is away."""

from __future__ import annotations

import logging
from pathlib import Path

from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_over

logger = logging.getLogger(__name__)

FILE_NAME = "release"
"""In the state folder."""


class LastGoodRelease:
    """One file, written whole or not at all."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.is_current = True
        """False when the release in use could not be written: the file holds an earlier one."""
        self.digest = b""
        """Of the release in the file, once it was verified or written; empty for none."""

    def read(self) -> bytes | None:
        """Return the release file; None when there is none, or it cannot be read."""
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("last good release %s cannot be read: %s", self.file, error)
            return None

    def write(self, data: bytes, digest: bytes) -> None:
        """Keep a release in place of the one before; on a full disk that one stays.

        Args:
            data: the release's file.
            digest: of the release.
        """
        try:
            write_over(self.file, data, mode=PUBLIC_MODE)
        except ConfigurationError as error:
            self.is_current = False
            logger.warning("release is used but not kept on disk: %s", error)
        else:
            self.is_current = True
            self.digest = digest
