"""The conversation with a gateway."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from bundle import Bundle
from link import Link
from spool import Spool
from telling import tell


class Deliverer:
    """Speaks with the gateway."""

    def __init__(self, link: Link, bundle: Bundle, spool: Spool, version: int) -> None:
        self.link = link
        self.release_version = 0
        self._bundle = bundle
        self._spool = spool
        self._version = version
        self._process_id = secrets.token_bytes(16)
        self._is_welcome = False
        self._greeted = 0
        self._hello_due_s = self._beat_due_s = self._paused_until_s = self._moved_s = 0.0
        self._window_bytes = 0
        self._under_way: dict[int, int] = {}

    def turn(self, now_s: float) -> None:
        if self.link.connections != self._greeted:
            self._greeted, self._is_welcome, self._hello_due_s = self.link.connections, False, 0.0
        while (received := self.link.receive()) is not None:
            self._take(received[0], now_s)
        if not self._is_welcome:
            self._greet(now_s)
            return
        if now_s >= self._beat_due_s:
            self._beat(now_s)
        if self._under_way and now_s - self._moved_s > 10.0:
            self._under_way.clear()
        if now_s >= self._paused_until_s:
            self._send_records(now_s)

    def _greet(self, now_s: float) -> None:
        if now_s < self._hello_due_s:
            return
        self._hello_due_s = now_s + 3.0
        hello = {
            "type": "hello",
            "wire_version": self._version,
            "software_version": "a stranger's agent",
            "claimed_name": self._bundle.name,
            "spool_id": self._spool.id,
            "next_sequence": self._spool.next_sequence,
        }
        if self._version >= 2:
            hello["process_id"] = self._process_id
        self.link.send(hello)

    def _beat(self, now_s: float) -> None:
        self._beat_due_s = now_s + 1.0
        waiting = self._spool.waiting("record")
        heartbeat = {
            "type": "heartbeat",
            "release_version": self.release_version,
            "policy_digest": "",
            "mode": "random",
            "attempts": self._spool.next_sequence - 1,
            "successes": 0,
            "outbox_episodes": len(waiting),
            "outbox_bytes": sum(path.stat().st_size for _, path in waiting),
            "sent_bytes": 0,
            "reconnects": max(0, self.link.connections - 1),
            "decision_ms_p50": 0.0,
            "decision_ms_p99": 0.0,
        }
        if self._version >= 2 and self._bundle.next_server:
            heartbeat["next_server_key"] = self._bundle.next_server.decode()
        self.link.send(heartbeat)
        for sequence, path in self._spool.waiting("tombstone"):
            self.link.send(
                {
                    "type": "tombstone",
                    "spool_id": self._spool.id,
                    "sequence": sequence,
                    "last_sequence": sequence,
                    "reason": path.read_text(),
                }
            )

    def _send_records(self, now_s: float) -> None:
        for sequence, path in self._spool.waiting("record"):
            if sequence in self._under_way:
                continue
            record = path.read_bytes()
            room = self._window_bytes - sum(self._under_way.values())
            if self._under_way and len(record) > room:
                return
            episode = {
                "type": "episode",
                "spool_id": self._spool.id,
                "sequence": sequence,
                "digest": hashlib.sha256(record).digest(),
            }
            if not self.link.send(episode, record):
                return
            if not self._under_way:
                self._moved_s = now_s
            self._under_way[sequence] = len(record)
            tell("sent", sequence=sequence)

    def _take(self, message: dict[str, Any], now_s: float) -> None:
        kind = message["type"]
        if kind == "welcome":
            self._is_welcome, self._window_bytes = True, message["window_bytes"]
            self._under_way.clear()
            self._beat_due_s = 0.0
            tell("welcome", wire_version=message["wire_version"], robot_id=message["robot_id"])
        elif kind == "ack" and message["spool_id"] == self._spool.id:
            self._moved_s = now_s
            for sequence in message["sequences"]:
                self._spool.forget(sequence)
                self._under_way.pop(sequence, None)
            tell("acked", sequences=message["sequences"])
        elif kind == "refusal":
            self._take_refusal(message, now_s)
        elif kind == "key_notice":
            self._bundle.take_notice(message["next_public_key"], message["signature"])
            self._beat_due_s = 0.0

    def _take_refusal(self, message: dict[str, Any], now_s: float) -> None:
        tell("refused", code=message["code"], reason=message["reason"])
        if message.get("sequence") is not None:
            self._spool.set_aside(message["sequence"], message["reason"])
            self._under_way.pop(message["sequence"], None)
        elif message["code"] == "say-hello":
            self._is_welcome, self._hello_due_s = False, 0.0
        else:
            self._paused_until_s = self._hello_due_s = now_s + 5.0
            self._under_way.clear()
