"""Who may speak to the learner: a folder with one small file per enrolled key.

``NAME.key`` is TOML: ``public_key`` (Z85) and ``role``. Revoking renames it to ``NAME.revoked``,
and a later key of that name to ``NAME~2.revoked``. A key that is among the revoked is refused,
whatever else is there. Files may be symbolic links, as in a volume that Kubernetes swaps.
The folder may change under a running learner: every look-up notices.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from protocol.configuration import load_toml
from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_new
from protocol.security import is_curve_key

logger = logging.getLogger(__name__)

Role = Literal["robot", "operator"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_SETTLES_IN_S = 0.1
"""A folder that was seen to change less than this ago may change again within the same clock tick
of the file system."""
_AGAIN = "~"
"""No name has it: ``NAME~2.revoked`` is the second key of NAME that was revoked."""
_KEY, _REVOKED = ".key", ".revoked"
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
_LOOK_AT_FILES_S = 1.0
"""A file that is edited in place does not change its folder, and is noticed within this time."""
_FileState = tuple[int, int]
"""Inode and time of its last change, ns. A file that replaces another may be as old."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryEntry:
    """Content of one key file."""

    public_key: str
    """40 characters Z85."""
    role: Role = "robot"

    def __post_init__(self) -> None:
        if not is_curve_key(self.public_key):
            raise ConfigurationError(f"public_key {self.public_key!r}: not 40 characters of Z85")


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One party that may speak."""

    name: str
    role: Role


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reading:
    """What was found in one file, so that one that did not change need not be read again."""

    state: _FileState
    seen_s: float
    """When it was first seen to be in this state."""
    entry: RegistryEntry | None
    is_settled: bool
    """It was read so long after its change that another one would have another time."""


class Registry:
    """The enrolled and the revoked keys of one folder. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._folder_path = str(folder)
        self._folder_changed_ns = -1
        self._settles_at_s = 0.0
        self._is_settled = False
        self._files: dict[str, _FileState] = {}
        self._readings: dict[str, _Reading] = {}
        self._look_at_files_s = 0.0
        self._members: dict[str, Member] = {}
        self._revoked: dict[str, str] = {}

    def member_for_key(self, public_key: str) -> Member | None:
        """Return who holds this key (Z85), or None when it is unknown or revoked.

        Cheap enough to ask for every message: one ``stat``, and once a second one for every file.
        """
        self._refresh()
        return self._members.get(public_key)

    def refusal_reason(self, public_key: str) -> str:
        """Say in words why a key that ``member_for_key`` does not know is refused."""
        self._refresh()
        name = self._revoked.get(public_key)
        if name is not None:
            return f"the key of {name} was revoked; enrol it again to let it back in"
        return f"key {public_key[:8]}… is not enrolled; run 'fleet enrol' and copy the bundle"

    def members(self) -> list[Member]:
        """Return everyone who may speak, by name."""
        self._refresh()
        return sorted(self._members.values(), key=lambda member: member.name)

    def has(self, name: str) -> bool:
        """Say whether ``name`` is enrolled."""
        return self._key_file(name).exists()

    def enrol(self, name: str, public_key: str, role: Role = "robot") -> None:
        """Let the holder of ``public_key`` speak as ``name``.

        Raises:
            ConfigurationError: the name is malformed or taken, or the key is known already.
        """
        self.check_name_is_free(name)
        entry = RegistryEntry(public_key=public_key, role=role)
        if self._folder.exists():
            self._refresh()
            holder = self._members.get(public_key)
            if holder is not None:
                raise ConfigurationError(f"this key is enrolled already, as {holder.name}")
            if (former := self._revoked.get(public_key)) is not None:
                raise ConfigurationError(
                    f"this key was revoked, as {former}: enrol {name} with a new one"
                )
        content = f'public_key = "{entry.public_key}"\nrole = "{entry.role}"\n'
        write_new(self._key_file(name), content.encode("ascii"), mode=PUBLIC_MODE)

    def check_name_is_free(self, name: str) -> None:
        """Refuse a name that cannot be enrolled.

        Raises:
            ConfigurationError: the name is malformed or taken.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"robot name {name!r}: use 1 to 64 of A-Z a-z 0-9 _ . - and no leading dot"
            )
        if self._key_file(name).exists():
            raise ConfigurationError(f"{name} is enrolled already; revoke it first")

    def revoke(self, name: str) -> None:
        """Shut ``name`` out, also on a connection that is open now.

        Raises:
            ConfigurationError: nobody of that name is enrolled.
        """
        if not _NAME.fullmatch(name) or not self.has(name):
            known = ", ".join(member.name for member in self.members()) or "nobody"
            raise ConfigurationError(f"{name!r} is not enrolled; enrolled: {known}")
        try:
            self._key_file(name).rename(self._revoked_file(name))
        except OSError as error:
            raise ConfigurationError(f"{name} cannot be revoked: {error.strerror}") from error

    def _revoked_file(self, name: str) -> Path:
        """Return where to keep a revoked key; those that this name had before stay known."""
        counts = itertools.count(2)
        free = self._folder / f"{name}.revoked"
        while free.exists():
            free = self._folder / f"{name}{_AGAIN}{next(counts)}.revoked"
        return free

    def _key_file(self, name: str) -> Path:
        return self._folder / f"{name}.key"

    def _refresh(self) -> None:
        if self._is_current():
            return
        with self._lock:
            try:
                self._read()
            except OSError as error:
                # Strangers' connections may have used up every descriptor: go by what is known.
                logger.warning("registry %s: cannot be read: %s", self._folder, error.strerror)

    def _is_current(self) -> bool:
        try:
            changed_ns = os.stat(self._folder_path).st_mtime_ns  # noqa: PTH116 (a third of the time)
        except OSError as error:
            raise ConfigurationError(
                f"registry {self._folder}: {error.strerror}; 'fleet enrol' makes it"
            ) from error
        if changed_ns != self._folder_changed_ns or not self._is_settled:
            return False
        if time.monotonic() < self._look_at_files_s:
            return True
        self._look_at_files_s = time.monotonic() + _LOOK_AT_FILES_S
        try:
            return self._file_states() == self._files
        except OSError:
            return True

    def _file_states(self) -> dict[str, _FileState]:
        """Return the state of every file of a key; of a link, that of the file it leads to."""
        states = {}
        with os.scandir(self._folder_path) as files:
            for file in files:
                if not file.name.endswith((_KEY, _REVOKED)):
                    continue
                # A link that leads nowhere, or was removed meanwhile, is no entry.
                with contextlib.suppress(OSError):
                    found = file.stat()
                    states[file.name] = (found.st_ino, found.st_ctime_ns)
        return states

    def _read(self) -> None:
        # Taken before the files are read: whatever changes meanwhile makes it outdated.
        changed_ns = self._folder.stat().st_mtime_ns
        # Not by the time of the change: the clock may have been set back since.
        now_s = time.monotonic()
        if changed_ns != self._folder_changed_ns:
            self._settles_at_s = now_s + _SETTLES_IN_S
        is_settled = now_s >= self._settles_at_s
        files = self._file_states()
        entries = self._read_entries(files, now_s)
        self._revoked = {
            entry.public_key: name.removesuffix(_REVOKED).partition(_AGAIN)[0]
            for name, entry in entries.items()
            if name.endswith(_REVOKED)
        }
        self._members = _members(
            {name.removesuffix(_KEY): entry for name, entry in entries.items() if _is_key(name)},
            self._revoked,
        )
        self._files = files
        self._is_settled = is_settled
        # Last, so that no other thread takes the new time for the new content.
        self._folder_changed_ns = changed_ns

    def _read_entries(self, files: dict[str, _FileState], now_s: float) -> dict[str, RegistryEntry]:
        """Return the entries of all files that hold one, by name."""
        self._readings = {
            name: self._reading(name, state, now_s) for name, state in sorted(files.items())
        }
        return {
            name: reading.entry
            for name, reading in self._readings.items()
            if reading.entry is not None
        }

    def _reading(self, name: str, state: _FileState, now_s: float) -> _Reading:
        before = self._readings.get(name)
        if before is None or before.state != state:
            seen_s = now_s
        elif before.is_settled:
            return before
        else:
            seen_s = before.seen_s
        return _Reading(
            state=state,
            seen_s=seen_s,
            entry=_read_entry(self._folder / name),
            is_settled=now_s - seen_s >= _SETTLES_IN_S,
        )


def _is_key(name: str) -> bool:
    return name.endswith(_KEY) and _NAME.fullmatch(name.removesuffix(_KEY)) is not None


def _members(entries: dict[str, RegistryEntry], revoked: dict[str, str]) -> dict[str, Member]:
    """Return who may speak, by public key.

    Args:
        entries: by name.
        revoked: by public key, the name it had.
    """
    holders = Counter(entry.public_key for entry in entries.values())
    shared = [name for name, entry in entries.items() if holders[entry.public_key] > 1]
    if shared:
        logger.error("several names share one key; all of them are refused: %s", shared)
    return {
        entry.public_key: Member(name=name, role=entry.role)
        for name, entry in entries.items()
        if holders[entry.public_key] == 1 and entry.public_key not in revoked
    }


def _read_entry(path: Path) -> RegistryEntry | None:
    # One damaged file must not shut out the rest of the fleet.
    try:
        return load_toml(path, RegistryEntry)
    except ConfigurationError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_DESCRIPTORS:
            raise error.__cause__ from error
        logger.warning("registry entry ignored: %s", error)
        return None
