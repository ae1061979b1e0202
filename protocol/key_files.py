"""Key files on disk: written whole or not at all, secrets readable by their owner alone."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from pathlib import Path

from protocol.abandoned_files import remove_abandoned
from protocol.errors import ConfigurationError

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
MAX_KEY_FILE_BYTES = 16_384

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.partial")
"""What ``_write_beside`` calls a file until it is whole."""


def write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that did not exist; it has its mode from the first byte on.

    Raises:
        ConfigurationError: the file exists already, or the folder cannot be written.
    """
    try:
        written = _write_beside(path, content, mode)
        try:
            # Unlike a rename, a link refuses to replace a key that is in use.
            os.link(written, path)
        finally:
            written.unlink()
        sync_folder(path.parent)
    except FileExistsError as error:
        raise ConfigurationError(
            f"key file {path} exists already; move it away if it is to be replaced"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"key file {path} cannot be written: {error.strerror}") from error


def write_over(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file in place of an older one; a reader sees the old or the new, never a part.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    try:
        _write_beside(path, content, mode).replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigurationError(f"file {path} cannot be written: {error.strerror}") from error


def credential_of(path: Path) -> Path:
    """Return where this process reads a secret: at ``path``, or its copy among the credentials that
    systemd gave to the service (``LoadCredential=``), under the same name.
    """
    folder = _credentials()
    copy = path if folder is None else folder / path.name
    return copy if copy.exists() else path


def read_secret(path: Path) -> bytes:
    """Read a secret that only its owner may read.

    Raises:
        ConfigurationError: the file is missing, unreadable, too large, or open to others, or
            others may replace it.
    """
    return _read(path, secret=True)


def read_public(path: Path) -> bytes:
    """Read a key file that anyone may read.

    Raises:
        ConfigurationError: the file is missing, unreadable or too large.
    """
    return _read(path, secret=False)


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"key file {path} is missing; on the learner 'fleet enrol' makes it, on a robot it "
            "comes with the bundle"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"key file {path} cannot be read: {error.strerror}") from error
    # systemd lets the service's user read by an ACL, which shows as a right of the group.
    others = 0o037 if path.parent == _credentials() else 0o077
    if secret and mode & others:
        raise ConfigurationError(
            f"secret key {path}: mode {mode:04o} lets others read it; run: chmod 600 {path}"
        )
    if secret:
        _check_folder(path.resolve().parent)
    if len(content) > MAX_KEY_FILE_BYTES:
        raise ConfigurationError(f"key file {path}: larger than {MAX_KEY_FILE_BYTES} bytes")
    return content


def _credentials() -> Path | None:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder else None


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which others could replace a secret by one that they know."""
    found = folder.stat()
    if found.st_mode & stat.S_ISVTX:
        return
    others = found.st_mode & stat.S_IWOTH
    # Many systems give every user a group of their own, and let it write by default.
    group = found.st_mode & stat.S_IWGRP and found.st_gid not in {os.getegid(), 0}
    if others or group:
        raise ConfigurationError(
            f"folder {folder}: mode {stat.S_IMODE(found.st_mode):04o} lets others replace the "
            f"secret keys in it; run: chmod go-w {folder}"
        )


def _write_beside(path: Path, content: bytes, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, _UNFINISHED)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # The process's umask may have taken bits away that a public file should have.
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        # A part of a file would fill a full disk further with every attempt.
        beside.unlink(missing_ok=True)
        raise
    return beside


def sync_folder(folder: Path) -> None:
    """Have the disk know which files are in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems of other machines, CIFS among them, sync files only.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
