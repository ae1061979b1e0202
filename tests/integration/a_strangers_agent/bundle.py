"""The keys: a robot's own, the learner's, and the learner's next."""

from __future__ import annotations

import base64
import json
import tomllib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from disk import write
from telling import tell


class Bundle:
    """What ``fleet enrol`` made, and what became known of the learner's key since."""

    def __init__(self, folder: Path, state: Path) -> None:
        part = tomllib.loads((folder / "robot-part.toml").read_text())
        learner = part["learner"]
        secret_file = folder / part["secret_key"]
        if secret_file.stat().st_mode & 0o077:
            raise SystemExit(f"{secret_file} is open to others")
        self.name: str = part["name"]
        self.episodes: str = learner["episodes"]
        self.releases: str = learner["releases"]
        self.secret = _curve_key(secret_file, "curve-secret")
        self.server = _curve_key(folder / learner["public_key"], "curve-public")
        self.signer = load_pem_public_key((folder / learner["release_key"]).read_bytes())
        assert isinstance(self.signer, Ed25519PublicKey)
        self.next_server = b""
        self._state = state / "learner-keys"
        if self._state.exists():
            self.server, _, self.next_server = self._state.read_bytes().partition(b"\n")
        notice = folder / "server-next.notice"
        if notice.exists():
            told = json.loads(notice.read_text())
            self.take_notice(told["next_public_key"], base64.b64decode(told["signature"]))

    def is_signed(self, text: bytes, signature: bytes) -> bool:
        try:
            self.signer.verify(signature, text)
        except InvalidSignature:
            return False
        return True

    def take_notice(self, key: str, signature: bytes) -> None:
        if not self.is_signed(b"graspfleet next server key\0" + key.encode(), signature):
            tell("forged-notice")
        elif key.encode() != self.server:
            self.next_server = key.encode()
            self._keep()
            tell("notice", key=key)

    def worked(self, key: bytes) -> None:
        if key == self.next_server:
            self.server, self.next_server = key, b""
            self._keep()

    def other_than(self, key: bytes) -> bytes:
        known = [one for one in (self.server, self.next_server) if one not in (b"", key)]
        return known[0] if known else key

    def _keep(self) -> None:
        write(self._state, self.server + b"\n" + self.next_server)


def _curve_key(path: Path, kind: str) -> bytes:
    found, key = path.read_text().split()
    if found != kind or len(key) != 40:
        raise SystemExit(f"{path} holds no {kind} key")
    return key.encode()
