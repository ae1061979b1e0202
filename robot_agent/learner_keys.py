"""The learner's public keys as a robot knows them: the one in use, and the one to come.

The first is in the robot's bundle. When the learner is about to change its key it says so in a
signed notice; the robot keeps the next key in its state folder, and tries it when the learner no
longer answers to the one in use. From then on the old one is worth nothing: whoever stole it may
have been the reason for the change. A bundle with another key counts more than all that.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.errors import AuthenticationError, ConfigurationError
from protocol.key_files import PUBLIC_MODE, write_over
from protocol.key_notice import notice_beside, read_key_notice, verify_key_notice
from protocol.messages import CurvePublic, KeyNotice
from protocol.security import load_curve_public

logger = logging.getLogger(__name__)


class _Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``learner-keys.json``."""

    given: CurvePublic
    """From the bundle; when that has another one, the rest is out of date."""
    in_use: CurvePublic
    next: str = ""


class LearnerKeys:
    """Shared by the connections of one robot. Any thread may call any method."""

    def __init__(
        self,
        given: bytes,
        *,
        verify_key: Ed25519PublicKey,
        state_folder: Path,
        notice: KeyNotice | None = None,
    ) -> None:
        """Remember what was known before.

        Args:
            given: the learner's public key (Z85) in the robot's bundle.
            verify_key: what notices and releases are verified with.
            state_folder: where the keys are remembered.
            notice: from the bundle too, of a change that was under way when it was made.
        """
        self._verify_key = verify_key
        self._file = state_folder / "learner-keys.json"
        self._lock = threading.Lock()
        self.trouble = ""
        """What a person should know, in words; "" when all is well."""
        text = given.decode("ascii")
        remembered = self._read(text)
        self._known = remembered or _Known(given=text, in_use=text)
        # The bundle stays as it was made: whatever was learned since is newer than its notice.
        if remembered is None and notice is not None:
            self.take(notice)

    @classmethod
    def of_bundle(
        cls, public_key: Path, *, verify_key: Ed25519PublicKey, state_folder: Path
    ) -> LearnerKeys:
        """Read a bundle; it may carry the notice of a change that was under way.

        Raises:
            ConfigurationError: a file is missing or wrong.
        """
        return cls(
            load_curve_public(public_key),
            verify_key=verify_key,
            state_folder=state_folder,
            notice=read_key_notice(notice_beside(public_key)),
        )

    @property
    def in_use(self) -> bytes:
        """The key (Z85) that worked last, or the bundle's."""
        return self._known.in_use.encode("ascii")

    @property
    def next(self) -> str:
        """The key (Z85) that the learner will change to; "" when none was announced."""
        return self._known.next

    @property
    def remedy(self) -> str:
        """What a person can do when the learner answers to none of the keys known, in words."""
        words = "copy server.public of the learner's keys to this robot, or enrol it anew"
        known = self._known
        if known.in_use == known.given and not known.next:
            return words
        # A learner that went back to the key of the bundle looks like no change of the bundle.
        return f"{words}, and remove {self._file}"

    def other_than(self, key: bytes) -> bytes:
        """Return the key to try when ``key`` was refused; the same when no other is known."""
        known = self._known
        other = known.next or known.in_use
        return (other if key == self.in_use else known.in_use).encode("ascii")

    def take(self, notice: KeyNotice) -> None:
        """Keep the key that a notice tells of; one that is forged is refused, and said."""
        try:
            key = verify_key_notice(notice, self._verify_key).decode("ascii")
        except AuthenticationError as error:
            self._say(f"refused: {error}")
            return
        with self._lock:
            if key in {self._known.next, self._known.in_use}:
                self.trouble = ""
            else:
                self._remember(msgspec.structs.replace(self._known, next=key))
                logger.info("the learner will change its key to %s…", key[:8])

    def worked(self, key: bytes) -> None:
        """Note that the learner answered to ``key``; if that was the next one, it is in use now."""
        with self._lock:
            if key.decode("ascii") == self._known.next:
                logger.warning("the learner has changed its key to %s…", self._known.next[:8])
                self._remember(_Known(given=self._known.given, in_use=self._known.next))

    def _remember(self, known: _Known) -> None:
        try:
            write_over(self._file, msgspec.json.encode(known) + b"\n", mode=PUBLIC_MODE)
        except ConfigurationError as error:
            # A key that would be forgotten with the process must not be confirmed to the learner.
            self._say(f"the learner's next key cannot be kept: {error}")
            if not known.next:
                self._known = known
            return
        self._known = known
        self.trouble = ""

    def _say(self, trouble: str) -> None:
        # The learner repeats its notice every second for as long as it is not confirmed.
        if trouble != self.trouble:
            logger.error("%s", trouble)
        self.trouble = trouble

    def _read(self, given: str) -> _Known | None:
        try:
            known = msgspec.json.decode(self._file.read_bytes(), type=_Known)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s: ignored, the bundle's key is used: %s", self._file, error)
            return None
        if known.given != given:
            logger.info("the bundle has another key of the learner than before; it counts")
            return None
        return known
