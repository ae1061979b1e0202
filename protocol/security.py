"""Keys: CURVE pairs that encrypt and identify connections, Ed25519 keys that sign releases.

A CURVE key file is one line, ``curve-public Z85`` or ``curve-secret Z85``, so that one cannot be
taken for the other. Ed25519 keys are PEM files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import zmq
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from zmq.utils import z85

from protocol.errors import ConfigurationError
from protocol.key_files import PUBLIC_MODE, SECRET_MODE, read_public, read_secret, write_new

_PUBLIC = "curve-public"
_SECRET = "curve-secret"  # noqa: S105 (the name of a file's kind, not a secret)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class CurveKeys:
    """A CURVE key pair; both halves are 40 bytes of Z85 text."""

    public: bytes
    secret: bytes


def create_curve_keys(secret_path: Path, public_path: Path) -> CurveKeys:
    """Make a key pair and write both files, the secret one with mode 0600.

    Raises:
        ConfigurationError: one of the files exists already or cannot be written.
    """
    public, secret = zmq.curve_keypair()
    write_new(secret_path, curve_secret_line(secret), mode=SECRET_MODE)
    write_new(public_path, curve_public_line(public), mode=PUBLIC_MODE)
    return CurveKeys(public=public, secret=secret)


def load_curve_keys(secret_path: Path) -> CurveKeys:
    """Read a secret key file; the public half is computed from it.

    Raises:
        ConfigurationError: the file is missing, open to others, or not a CURVE secret key.
    """
    secret = _curve_key(secret_path, read_secret(secret_path), _SECRET)
    return CurveKeys(public=zmq.curve_public(secret), secret=secret)


def load_curve_public(path: Path) -> bytes:
    """Read a public key file; return 40 bytes of Z85 text.

    Raises:
        ConfigurationError: the file is missing or not a CURVE public key.
    """
    return _curve_key(path, read_public(path), _PUBLIC)


def write_curve_public(path: Path, public: bytes) -> None:
    """Write another party's public key, for a bundle."""
    write_new(path, curve_public_line(public), mode=PUBLIC_MODE)


def curve_public_line(public: bytes) -> bytes:
    """Return the content of a public key file."""
    return f"{_PUBLIC} {public.decode('ascii')}\n".encode("ascii")


def curve_secret_line(secret: bytes) -> bytes:
    """Return the content of a secret key file."""
    return f"{_SECRET} {secret.decode('ascii')}\n".encode("ascii")


def is_curve_key(text: str) -> bool:
    """Say whether ``text`` is 32 bytes in Z85."""
    try:
        return len(text) == 40 and len(z85.decode(text.encode("ascii"))) == 32
    except (KeyError, ValueError, OverflowError):
        return False


def create_release_keys(secret_path: Path, public_path: Path) -> Ed25519PrivateKey:
    """Make the key pair that signs releases and write both PEM files, the secret one 0600.

    Raises:
        ConfigurationError: one of the files exists already or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_new(secret_path, secret, mode=SECRET_MODE)
    write_new(public_path, release_public_pem(key.public_key()), mode=PUBLIC_MODE)
    return key


def load_release_secret(path: Path) -> Ed25519PrivateKey:
    """Read the key that signs releases.

    Raises:
        ConfigurationError: the file is missing, open to others, or not an Ed25519 secret key.
    """
    content = read_secret(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"key file {path}: not a PEM secret key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"key file {path}: {type(key).__name__}, but Ed25519 is needed")
    return key


def load_release_public(path: Path) -> Ed25519PublicKey:
    """Read the key that releases are verified with.

    Raises:
        ConfigurationError: the file is missing or not an Ed25519 public key.
    """
    content = read_public(path)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"key file {path}: not a PEM public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"key file {path}: {type(key).__name__}, but Ed25519 is needed")
    return key


def release_public_pem(key: Ed25519PublicKey) -> bytes:
    """Return the PEM text of a verification key."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _curve_key(path: Path, content: bytes, kind: str) -> bytes:
    words = content.decode("ascii", "replace").split()
    if len(words) == 2 and words[0] in {_PUBLIC, _SECRET} and words[0] != kind:
        raise ConfigurationError(f"key file {path}: holds a {words[0]} key, but a {kind} is needed")
    if len(words) != 2 or words[0] != kind or not is_curve_key(words[1]):
        raise ConfigurationError(f"key file {path}: expected one line '{kind} <40 characters Z85>'")
    return words[1].encode("ascii")
