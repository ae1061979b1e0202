"""The learner's CURVE key as its files say now, and who is ready for the next one.

``fleet rotate-key`` changes the files under a running learner; whoever owns a socket looks at
them every second or so. While a change is under way, beside ``server.secret`` lie
``server-next.notice`` and ``server-next.confirmed``: a folder with one file for every robot that
has stored the next key, which holds that key.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from protocol.errors import ConfigurationError
from protocol.key_notice import notice_beside, read_key_notice
from protocol.messages import KeyNotice
from protocol.refusal_log import RefusalLog
from protocol.security import CurveKeys, load_curve_keys

logger = logging.getLogger(__name__)

MARKED_AGAIN_AFTER_S = 10.0
"""A robot that says with each heartbeat something else writes no more often than this."""


class ServerKey:
    """Belongs to the thread that owns the socket."""

    def __init__(
        self,
        secret_file: Path,
        refusals: RefusalLog | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the files.

        Args:
            secret_file: the learner's; the others lie beside it.
            refusals: where is said what robots say of the next key; this room's log without one.
            clock: seconds, for how often a robot's mark may change.

        Raises:
            ConfigurationError: the secret is missing, open to others, or no key.
        """
        self._secret_file = secret_file
        self._refusals = refusals or RefusalLog(logger)
        self._clock = clock
        self.keys: CurveKeys = load_curve_keys(secret_file)
        """What the socket goes by."""
        self.notice: KeyNotice | None = None
        """What robots shall be told; None when no change is under way."""
        self._seen = _state_of(secret_file)
        self._read_notice()

    def has_changed(self) -> bool:
        """Look at the files; return True when ``keys`` is another pair than before."""
        seen = _state_of(self._secret_file)
        if seen == self._seen:
            return False
        before = self.keys.public
        try:
            self.keys = load_curve_keys(self._secret_file)
        except ConfigurationError as error:
            # Robots are served under the key that they know for as long as the file is wrong.
            logger.error("the learner's key stays as it is: %s", error)  # noqa: TRY400
        self._seen = seen
        self._read_notice()
        return self.keys.public != before

    def note_confirmed(self, robot_id: str, next_public_key: str) -> bool:
        """Remember whether a robot has stored the next key; return True when it must be told."""
        notice = self.notice
        if notice is None:
            return False
        has_it = next_public_key == notice.next_public_key
        if has_it and robot_id in self._noted:
            return False
        try:
            self._note(robot_id, notice, has_it=has_it)
        except OSError as error:
            # Without a notice the change was finished or given up a moment ago: nothing is due.
            if robot_id not in self._not_noted and notice_beside(self._secret_file).exists():
                self._not_noted.add(robot_id)
                what = "has stored the next key" if has_it else "no longer has the next key"
                logger.warning("%s %s; not noted: %s", robot_id, what, error.strerror)
        return not has_it

    def _note(self, robot_id: str, notice: KeyNotice, *, has_it: bool) -> None:
        if has_it:
            now_s = self._clock()
            if now_s < self._marked_again_s.get(robot_id, now_s):
                return
            if mark_confirmed(self._secret_file, robot_id, notice.next_public_key):
                self._marked_again_s[robot_id] = now_s + MARKED_AGAIN_AFTER_S
                what = "has stored the learner's next key"
                self._refusals.note(logging.INFO, robot_id, what, "the change need not wait for it")
            self._noted.add(robot_id)
        elif _withdraw_mark(self._secret_file, robot_id):
            # At once, unlike the mark: without the key it could not connect after the change.
            self._noted.discard(robot_id)
            what = "does not have the learner's next key (any more)"
            self._refusals.note(logging.WARNING, robot_id, what, "it is told anew")

    def _read_notice(self) -> None:
        try:
            notice = read_key_notice(notice_beside(self._secret_file))
        except ConfigurationError as error:
            logger.error("robots are not told of the next key: %s", error)  # noqa: TRY400
            notice = None
        # While a change is being finished, the notice may be of the key in use.
        is_due = notice is not None and notice.next_public_key != self.keys.public.decode()
        self.notice = notice if is_due else None
        # Every robot says with every heartbeat which key it has: the disk is asked only once.
        self._noted: set[str] = set()
        self._not_noted: set[str] = set()
        self._marked_again_s: dict[str, float] = {}
        """By robot, when its mark may be written again."""


def mark_confirmed(secret_file: Path, robot_id: str, next_public_key: str) -> bool:
    """Note that a robot has the next key; return True if that is new. Raises OSError."""
    mark = _mark(secret_file, robot_id)
    key = next_public_key.encode("ascii")
    if mark.exists() and mark.read_bytes() == key:
        return False
    mark.write_bytes(key)
    return True


def confirmed(secret_file: Path, next_public_key: str) -> set[str]:
    """Return the robots that have stored this very key."""
    marks = confirmed_folder(secret_file).glob("*")
    return {mark.name for mark in marks if mark.read_text(encoding="ascii") == next_public_key}


def _withdraw_mark(secret_file: Path, robot_id: str) -> bool:
    """Return True if there was a mark. Raises OSError."""
    try:
        _mark(secret_file, robot_id).unlink()
    except FileNotFoundError:
        return False
    return True


def _mark(secret_file: Path, robot_id: str) -> Path:
    return confirmed_folder(secret_file) / robot_id


def confirmed_folder(secret_file: Path) -> Path:
    """Return where the marks of robots that have stored the next key lie."""
    return secret_file.with_name(f"{secret_file.stem}-next.confirmed")


def _state_of(secret_file: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what differs when one of the files was replaced, is gone, or has another mode."""
    return tuple(_stat(path) for path in (secret_file, notice_beside(secret_file)))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns, found.st_size
