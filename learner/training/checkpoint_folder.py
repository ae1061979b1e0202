"""Where checkpoint files are kept: a folder of this machine, or any store that fsspec knows."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import fsspec

from protocol.abandoned_files import remove_abandoned
from protocol.errors import ConfigurationError
from protocol.key_files import sync_folder

_KEEPS_NOTHING = frozenset(
    ["memory", "http", "https", "zip", "tar", "libarchive", "data", "github", "git", "jupyter"]
)
"""What fsspec also knows: gone with the process, or only to be read."""
_UNFINISHED = re.compile(r"\d{9,}\.safetensors\.partial")
"""Checkpoints' names alone: the folder may be one of the user's own, with other files in it."""


class CheckpointFolder(Protocol):
    """Files by name; each appears whole or not at all. Failures are OSError."""

    def names(self) -> list[str]:
        """Return the names of all files; [] when there is no such folder yet."""

    def read(self, name: str) -> bytes:
        """Return a file's content."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, over an older one of that name."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name."""

    def free_bytes(self) -> int | None:
        """Return how much more can be written; None where that cannot be known."""


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine's file systems."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        """See CheckpointFolder."""
        try:
            return [path.name for path in self.path.iterdir()]
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        """See CheckpointFolder."""
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """See CheckpointFolder."""
        self.path.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.path, _UNFINISHED)
        partial = self.path / f"{name}.partial"
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path / name)
            # Older checkpoints are removed next; the disk is to know of this one before.
            sync_folder(self.path)
        except OSError:
            partial.unlink(missing_ok=True)  # a full disk needs the room
            raise

    def remove(self, name: str) -> None:
        """See CheckpointFolder."""
        (self.path / name).unlink()

    def rename(self, name: str, new_name: str) -> None:
        """See CheckpointFolder."""
        (self.path / name).replace(self.path / new_name)

    def free_bytes(self) -> int | None:
        """See CheckpointFolder."""
        there = next(path for path in (self.path, *self.path.parents) if path.exists())
        return shutil.disk_usage(there).free


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder of a store that fsspec knows. Object stores show a file when it is complete."""

    url: str
    system: Any
    path: str

    def __str__(self) -> str:
        return self.url

    def names(self) -> list[str]:
        """See CheckpointFolder."""
        try:
            with _as_os_errors():
                found = self.system.ls(self.path, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return [str(path).rpartition("/")[2] for path in found]

    def read(self, name: str) -> bytes:
        """See CheckpointFolder."""
        with _as_os_errors():
            return bytes(self.system.cat_file(f"{self.path}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """See CheckpointFolder."""
        with _as_os_errors():
            self.system.makedirs(self.path, exist_ok=True)
            self.system.pipe_file(f"{self.path}/{name}", content)

    def remove(self, name: str) -> None:
        """See CheckpointFolder."""
        with _as_os_errors():
            self.system.rm_file(f"{self.path}/{name}")

    def rename(self, name: str, new_name: str) -> None:
        """See CheckpointFolder."""
        with _as_os_errors():
            self.system.mv(f"{self.path}/{name}", f"{self.path}/{new_name}")

    def free_bytes(self) -> int | None:
        """See CheckpointFolder."""
        return None


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Raise whatever a store's own package raises as an OSError that has words."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


def _probe(folder: RemoteFolder) -> None:
    name = f"writable-{uuid4().hex}"  # several workers may look at once
    folder.write(name, b"a learner keeps its checkpoints here")
    folder.remove(name)


def checkpoint_folder(where: str, default: Path) -> CheckpointFolder:
    """Return the folder that a configuration names; ``default`` if it names none.

    Raises:
        ConfigurationError: fsspec does not know such a store, lacks a package for it, or nothing
            can be kept there.
    """
    local = where.removeprefix("file://")
    if "://" not in local:
        return LocalFolder(default.parent / Path(local).expanduser() if local else default)
    if unfit := {part.partition("://")[0] for part in where.split("::")} & _KEEPS_NOTHING:
        raise ConfigurationError(
            f"training.checkpoints {where}: nothing can be kept in {min(unfit)}://; name a folder, "
            "or a store such as s3:// or gs://"
        )
    try:
        with _as_os_errors():
            system, path = fsspec.core.url_to_fs(where)
        folder = RemoteFolder(where.rstrip("/"), system, path.rstrip("/"))
        _probe(folder)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigurationError(f"training.checkpoints {where}: {reason}") from error
    return folder
