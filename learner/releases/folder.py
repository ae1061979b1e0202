"""The release files that a release server keeps on disk."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.errors import RejectedReleaseError
from protocol.key_files import PUBLIC_MODE, write_over
from protocol.messages import ReleaseEntry
from protocol.release import Release, unpack_release

logger = logging.getLogger(__name__)

_State = tuple[int, int, int]
"""What differs when a file was replaced: inode, time of the last change, size."""
_NAME = re.compile(r"release-(\d{10,16})\.gfrel")


class ReleaseFolder:
    """The newest ``keep`` releases and the pinned ones, one file each, named by version."""

    def __init__(self, folder: Path, keep: int, verify_key: Ed25519PublicKey) -> None:
        self._folder = folder
        self._keep = keep
        self._verify_key = verify_key
        self._entries: dict[int, tuple[_State, ReleaseEntry]] = {}
        self._complained_of: set[int] = set()

    def store(self, version: int, data: bytes, pinned: Collection[int] = ()) -> None:
        """Write a release whole or not at all, then remove what is beyond ``keep``.

        Args:
            version: of the release.
            data: its file.
            pinned: versions that are never removed.

        Raises:
            ConfigurationError: the folder cannot be written, or the disk is full.
        """
        write_over(self._path(version), data, mode=PUBLIC_MODE)
        self._complained_of.discard(version)
        for old in self.versions()[self._keep :]:
            if old not in pinned:
                self._path(old).unlink(missing_ok=True)
                self._entries.pop(old, None)

    def newest(self, count: int) -> list[tuple[Release, bytes]]:
        """Return the newest whole releases and their files, newest first.

        Damaged ones are logged and passed over.
        """
        found: list[tuple[Release, bytes]] = []
        for version in self.versions():
            if len(found) == count:
                break
            try:
                data = self._path(version).read_bytes()
                found.append((unpack_release(data, self._verify_key), data))
            except (OSError, RejectedReleaseError) as error:
                logger.warning("release file %s is passed over: %s", self._path(version), error)
        return found

    def versions(self) -> list[int]:
        """Return what is on disk, newest first."""
        if not self._folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def entry(self, version: int) -> ReleaseEntry | None:
        """Return what a release says of itself; None when it is missing or damaged.

        A file that was changed or removed since it was read last is noticed.
        """
        try:
            state = _state_of(self._path(version))
            known = self._entries.get(version)
            if known is not None and known[0] == state:
                return known[1]
            data = self._path(version).read_bytes()
            release = unpack_release(data, self._verify_key)
        except FileNotFoundError:
            return None
        except (OSError, RejectedReleaseError) as error:
            if version not in self._complained_of:
                self._complained_of.add(version)
                logger.error("release %d cannot be used: %s", version, error)  # noqa: TRY400
            return None
        entry = describe(release, len(data))
        self._entries[version] = state, entry
        return entry

    def read(self, version: int, offset: int, length: int) -> bytes | None:
        """Return a part of a release file; None when there is none of this version."""
        try:
            with self._path(version).open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except OSError:
            return None

    def _path(self, version: int) -> Path:
        return self._folder / f"release-{version:010d}.gfrel"


def _state_of(path: Path) -> _State:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def describe(release: Release, size_bytes: int) -> ReleaseEntry:
    """Return what a list says of a release."""
    manifest = release.manifest
    return ReleaseEntry(
        version=manifest.version,
        digest=release.digest,
        size_bytes=size_bytes,
        created_at_ns=manifest.created_at_ns,
        trained_steps=int(manifest.metrics.get("step", 0)),
        metrics=manifest.metrics,
    )
