"""Changing the learner's CURVE key without locking robots out.

``begin`` makes the next key and a signed notice of it; a learner that runs tells its robots, and
notes which of them have stored it. ``finish`` puts the next key in the place of the one in use; a
learner that runs takes it up within a second or two, and robots try the next key when the old one
is refused. Nothing is kept in memory: the state of a rotation is what lies in the keys' folder.

    server.secret        in use; what the learner goes by. Its public half is computed from it
    server-next.secret   there from begin on until finish renames it over server.secret
    server-next.notice   what robots are told; removed last
    server-next.confirmed/ROBOT   one file for every robot that has stored the next key

Killed at any point, ``begin`` and ``finish`` leave files that the learner can use and that the same
command completes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import zmq

from fleet.enrolment import RELEASE_SECRET, SERVER_PUBLIC, SERVER_SECRET
from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, SECRET_MODE, write_new, write_over
from protocol.key_notice import notice_beside, read_key_notice, sign_key_notice, write_key_notice
from protocol.registry import Registry
from protocol.security import (
    curve_public_line,
    curve_secret_line,
    load_curve_keys,
    load_release_secret,
)
from protocol.server_key import confirmed, confirmed_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class RotationStatus:
    """Who would still reach the learner if the rotation was finished now."""

    next_public_key: str
    confirmed: list[str]
    missing: list[str]
    """Enrolled, but the learner has not heard that they stored the next key."""


class KeyRotation:
    """The rotation under way in a folder of keys, or the one that may begin there."""

    def __init__(self, keys: Path, registry: Registry) -> None:
        self._keys = keys
        self._registry = registry
        self._secret = keys / SERVER_SECRET
        self._next_secret = keys / "server-next.secret"
        self._notice = notice_beside(self._secret)
        self._confirmed = confirmed_folder(self._secret)

    def begin(self) -> str:
        """Make the next key and the notice that tells robots of it; return its public half.

        Raises:
            ConfigurationError: a rotation is under way, or a key file is missing or wrong.
        """
        if self._notice.exists():
            raise ConfigurationError(
                f"a rotation is under way in {self._keys}: 'fleet rotate-key status' says who is "
                "ready, then finish or cancel it"
            )
        signing_key = load_release_secret(self._keys / RELEASE_SECRET)
        load_curve_keys(self._secret)
        # Left by a begin or a cancel that was killed: a key that was given up must not come back.
        self._next_secret.unlink(missing_ok=True)
        shutil.rmtree(self._confirmed, ignore_errors=True)
        self._confirmed.mkdir(exist_ok=True)
        secret = zmq.curve_keypair()[1]
        write_new(self._next_secret, curve_secret_line(secret), mode=SECRET_MODE)
        public = load_curve_keys(self._next_secret).public
        write_key_notice(self._notice, sign_key_notice(public, signing_key))
        return public.decode("ascii")

    def status(self) -> RotationStatus:
        """Say who has stored the next key.

        Raises:
            ConfigurationError: no rotation is under way.
        """
        notice = read_key_notice(self._notice)
        if notice is None:
            raise ConfigurationError(
                f"no rotation is under way in {self._keys}: 'fleet rotate-key begin' starts one"
            )
        robots = [member.name for member in self._registry.members() if member.role == "robot"]
        marks = confirmed(self._secret, notice.next_public_key)
        return RotationStatus(
            next_public_key=notice.next_public_key,
            confirmed=[name for name in robots if name in marks],
            missing=[name for name in robots if name not in marks],
        )

    def finish(self, *, force: bool = False) -> list[str]:
        """Put the next key in use; return the robots that are locked out by it.

        Args:
            force: lock robots out rather than refuse.

        Raises:
            ConfigurationError: no rotation is under way, or robots would be locked out.
        """
        status = self.status()
        if self._next_secret.exists():
            if status.missing and not force:
                raise ConfigurationError(_would_lock_out(status.missing))
            load_curve_keys(self._next_secret)
            self._next_secret.replace(self._secret)
        # Otherwise the command was killed here before: the key is in use, the rest is to be done.
        public = load_curve_keys(self._secret).public
        write_over(self._keys / SERVER_PUBLIC, curve_public_line(public), mode=PUBLIC_MODE)
        self._forget()
        return status.missing

    def cancel(self) -> None:
        """Give the next key up; robots that have stored it are none the worse.

        Raises:
            ConfigurationError: no rotation is under way, or its key is in use already.
        """
        self.status()
        if not self._next_secret.exists():
            raise ConfigurationError(
                "the next key is in use already: 'fleet rotate-key finish' completes the rotation"
            )
        # The notice first: a learner must not tell of a key that is gone.
        self._notice.unlink()
        self._next_secret.unlink()
        shutil.rmtree(self._confirmed, ignore_errors=True)

    def _forget(self) -> None:
        self._notice.unlink()
        shutil.rmtree(self._confirmed, ignore_errors=True)


def _would_lock_out(missing: list[str]) -> str:
    return (
        f"{len(missing)} robots have not stored the next key and would be locked out: "
        f"{', '.join(missing)}. Switch them on (update agents older than wire version 2: they "
        "cannot be told) and wait until 'fleet rotate-key status' no longer names them, revoke "
        "those that are gone, or use --force and copy the new server.public to them afterwards"
    )
