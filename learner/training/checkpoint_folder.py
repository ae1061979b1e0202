"""Where checkpoint files are kept: a folder of this machine, or any store that fsspec knows."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import fsspec

from protocol.errors import ConfigurationError


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
        return [path.name for path in self.path.glob("*")]

    def read(self, name: str) -> bytes:
        """See CheckpointFolder."""
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """See CheckpointFolder."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f"{name}.partial"
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path / name)
        except OSError:
            partial.unlink(missing_ok=True)  # a full disk needs the room
            raise

    def remove(self, name: str) -> None:
        """See CheckpointFolder."""
        (self.path / name).unlink()

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
            found = self.system.ls(self.path, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return [str(path).rpartition("/")[2] for path in found]

    def read(self, name: str) -> bytes:
        """See CheckpointFolder."""
        return bytes(self.system.cat_file(f"{self.path}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """See CheckpointFolder."""
        self.system.makedirs(self.path, exist_ok=True)
        self.system.pipe_file(f"{self.path}/{name}", content)

    def remove(self, name: str) -> None:
        """See CheckpointFolder."""
        self.system.rm_file(f"{self.path}/{name}")

    def free_bytes(self) -> int | None:
        """See CheckpointFolder."""
        return None


def checkpoint_folder(where: str, default: Path) -> CheckpointFolder:
    """Return the folder that a configuration names; ``default`` if it names none.

    Raises:
        ConfigurationError: fsspec does not know such a store, or lacks a package for it.
    """
    local = where.removeprefix("file://")
    if "://" not in local:
        return LocalFolder(default.parent / Path(local).expanduser() if local else default)
    try:
        system, path = fsspec.core.url_to_fs(where)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(f"training.checkpoints {where}: {error}") from error
    return RemoteFolder(where.rstrip("/"), system, path.rstrip("/"))
