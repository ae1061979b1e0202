"""The conversation with the release server."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import msgpack
from bundle import Bundle
from disk import write
from link import Link
from telling import tell

MAX_RELEASE_BYTES = 536_870_912
CHUNK_BYTES = 500  # small, so that even a test's release comes in several
RELEASE_MAGIC = bytes.fromhex("474652454c010d0a")


class Fetcher:
    """Speaks with the release server."""

    def __init__(self, link: Link, bundle: Bundle, state: Path, version: int) -> None:
        self.link = link
        self.version = 0
        self._bundle = bundle
        self._state = state
        self._wire_version = version
        self._order_file = state / "order"
        self._order_number = int(self._order_file.read_text()) if self._order_file.exists() else 0
        self._subscribe_due_s = 0.0
        self._greeted = 0
        self._asked_since_subscribing = False
        self._announced: dict[str, Any] | None = None
        self._data = b""
        self._refused: set[bytes] = set()

    def turn(self, now_s: float) -> None:
        if self.link.connections != self._greeted:
            self._greeted, self._subscribe_due_s = self.link.connections, 0.0
        if now_s >= self._subscribe_due_s:
            subscription = {"type": "release_subscription", "have_version": self.version}
            if self._wire_version >= 2:
                subscription["wire_version"] = self._wire_version
            if self.link.send(subscription):
                self._subscribe_due_s = now_s + 2.0
                self._asked_since_subscribing = False
        while (received := self.link.receive()) is not None:
            message, body = received
            if message["type"] == "release_announcement":
                self._hear(message)
            elif message["type"] == "chunk":
                self._append(message, body)
            elif message["type"] == "refusal":
                tell("refused", code=message["code"], reason=message["reason"])
                self._announced = None

    def _hear(self, message: dict[str, Any]) -> None:
        version, digest = message["version"], message["digest"]
        number = self._order(message)
        if version == self.version or digest in self._refused:
            return
        if version < self.version and number <= self._order_number:
            tell("refused-release", version=version, why="older, and no new order")
        elif message["size_bytes"] > MAX_RELEASE_BYTES:
            self._refuse(message, "too large")
        elif self._announced != message:
            self._announced, self._data = message, b""
            self._ask()
        elif not self._asked_since_subscribing:
            self._ask()

    def _order(self, message: dict[str, Any]) -> int:
        """Return the number of an announcement's order if it holds; 0 otherwise."""
        signed = message.get("order")
        if signed is None:
            return 0
        if not self._bundle.is_signed(
            b"graspfleet release order\0" + signed["order"], signed["signature"]
        ):
            tell("forged-order")
            return 0
        number, robot, version, digest = msgpack.unpackb(signed["order"])
        binds = robot in ("", self._bundle.name)
        is_of_this = (version, digest) == (message["version"], message["digest"])
        return number if binds and is_of_this else 0

    def _ask(self) -> None:
        assert self._announced is not None
        missing = self._announced["size_bytes"] - len(self._data)
        self._asked_since_subscribing = self.link.send(
            {
                "type": "chunk_request",
                "version": self._announced["version"],
                "offset": len(self._data),
                "length": min(CHUNK_BYTES, missing),
            }
        )

    def _append(self, message: dict[str, Any], body: bytes) -> None:
        wanted = self._announced
        if wanted is None or message["version"] != wanted["version"]:
            return
        if message["offset"] != len(self._data) or not body:
            return
        self._data += body
        if len(self._data) < wanted["size_bytes"]:
            self._ask()
            return
        self._announced = None
        complaint = self._complaint(wanted)
        if complaint:
            self._refuse(wanted, complaint)
            return
        write(self._state / "release", self._data)
        self.version = wanted["version"]
        self._order_number = max(self._order_number, self._order(wanted))
        write(self._order_file, str(self._order_number).encode())
        tell("release", version=self.version, digest=wanted["digest"].hex())

    def _complaint(self, wanted: dict[str, Any]) -> str:
        """Return why the file that was fetched must not be used; "" when it may."""
        body, signature = self._data[:-64], self._data[-64:]
        digest = hashlib.sha256(body).digest()
        if len(self._data) != wanted["size_bytes"] or not body.startswith(RELEASE_MAGIC):
            return "no release file"
        if not self._bundle.is_signed(digest, signature):
            return "not signed by the learner"
        if digest != wanted["digest"]:
            return "another release than was announced"
        (size,) = struct.unpack_from("<I", body, 8)
        manifest = json.loads(body[12 : 12 + size])
        if 12 + size + manifest["encode_bytes"] + manifest["score_bytes"] != len(body):
            return "its sizes do not add up"
        if manifest["version"] != wanted["version"]:
            return "another version than was announced"
        if (manifest["image_height_px"], manifest["image_width_px"]) != (8, 8):
            return "made for other pictures"
        return ""

    def _refuse(self, announced: dict[str, Any], why: str) -> None:
        self._refused.add(announced["digest"])
        self._announced = None
        tell("refused-release", version=announced["version"], why=why)
