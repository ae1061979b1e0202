"""The notice of the learner's next key: signed, so that a robot may believe it.

It lies in a file beside the secret key for as long as a change of keys is under way, and in the
bundle of a robot that is enrolled meanwhile. Names follow the key file's: beside ``server.secret``
are ``server-next.secret`` and ``server-next.notice``.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.errors import AuthenticationError, ConfigurationError
from protocol.key_files import PUBLIC_MODE, read_public, write_over
from protocol.messages import KeyNotice
from protocol.security import is_curve_key

_DOMAIN = b"graspfleet next server key\0"


def sign_key_notice(next_public: bytes, key: Ed25519PrivateKey) -> KeyNotice:
    """Return the notice that the learner will change to ``next_public`` (Z85)."""
    return KeyNotice(
        next_public_key=next_public.decode("ascii"), signature=key.sign(_DOMAIN + next_public)
    )


def verify_key_notice(notice: KeyNotice, key: Ed25519PublicKey) -> bytes:
    """Return the next public key (Z85).

    Raises:
        AuthenticationError: the notice is not signed by the key that signs releases.
    """
    text = notice.next_public_key
    if not is_curve_key(text):
        raise AuthenticationError(f"a notice of the learner's next key holds no key: {text!r}")
    public = text.encode("ascii")
    try:
        key.verify(notice.signature, _DOMAIN + public)
    except InvalidSignature as error:
        raise AuthenticationError(
            f"a notice of the learner's next key, {text[:8]}…, is forged: it is not signed by the "
            "key that signs releases"
        ) from error
    return public


def notice_beside(key_file: Path) -> Path:
    """Return where the notice lies that belongs to a key file."""
    return key_file.with_name(f"{key_file.stem}-next.notice")


def read_key_notice(path: Path) -> KeyNotice | None:
    """Return the notice in a file; None when there is none.

    Raises:
        ConfigurationError: the file is no notice.
    """
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(read_public(path), type=KeyNotice)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path}: not a notice of the learner's key: {error}") from error


def write_key_notice(path: Path, notice: KeyNotice) -> None:
    """Write a notice for a gateway, or for a robot's bundle."""
    write_over(path, msgspec.json.encode(notice) + b"\n", mode=PUBLIC_MODE)
