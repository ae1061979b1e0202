"""The release files that a release server keeps on disk."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.errors import RejectedReleaseError
from protocol.key_files import PUBLIC_MODE, write_over
from protocol.release import Release, unpack_release

logger = logging.getLogger(__name__)

_NAME = re.compile(r"release-(\d{10})\.gfrel")


class ReleaseFolder:
    """The newest ``keep`` releases, one file each, named by version."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def store(self, version: int, data: bytes) -> None:
        """Write a release whole or not at all, then remove the ones beyond ``keep``.

        Raises:
            ConfigurationError: the folder cannot be written, or the disk is full.
        """
        write_over(self._folder / f"release-{version:010d}.gfrel", data, mode=PUBLIC_MODE)
        for path in self._files()[self._keep :]:
            path.unlink(missing_ok=True)

    def newest(self, verify_key: Ed25519PublicKey) -> tuple[Release, bytes] | None:
        """Return the newest whole release and its file; damaged ones are logged and passed over."""
        for path in self._files():
            try:
                data = path.read_bytes()
                release = unpack_release(data, verify_key)
            except (OSError, RejectedReleaseError) as error:
                logger.warning("release file %s is passed over: %s", path, error)
            else:
                return release, data
        return None

    def _files(self) -> list[Path]:
        """Return the release files, newest first."""
        if not self._folder.is_dir():
            return []
        named = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(named, key=lambda path: path.name, reverse=True)
