"""A robot's agent written from docs/protocol.md alone: pyzmq, msgpack and cryptography.

It has no robot: every line ``attempt`` on its standard input is an attempt with made-up numbers,
every line ``lose`` one that is lost before it is sent. What happens is told on standard output, one
JSON object a line. It does not run the graphs of a release: that needs ONNX Runtime.

    python a_strangers_agent.py BUNDLE STATE --wire-version 2
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import secrets
import struct
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import msgpack
import zmq
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from zmq.utils.monitor import recv_monitor_message

MAX_HEADER_BYTES = 65_536
MAX_RELEASE_BYTES = 536_870_912
_WATCHED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
CHUNK_BYTES = 500  # small, so that even a test's release comes in several
RELEASE_MAGIC = bytes.fromhex("474652454c010d0a")
RANDOM_POLICY = hashlib.sha256(b"graspfleet random policy").hexdigest()
HAND_EYE_MAP = [1.5, 0.0, 0.0, 0.0, 0.0, -1.5, -0.25, 0.125, 0.0, -0.5, -0.875, 0.5]
# The closing step's picture of the document's example: 8 x 8 pixels.
PICTURE = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb00430003020202020203020202030303030406040404"
    "0404080606050609080a0a090809090a0c0f0c0a0b0e0b09090d110d0e0f101011100a0c12131210130f1010"
    "10ffdb00430103030304030408040408100b090b101010101010101010101010101010101010101010101010"
    "1010101010101010101010101010101010101010101010101010ffc000110800080008030111000211010311"
    "01ffc40014000100000000000000000000000000000007ffc4001f1000000309000000000000000000000000"
    "001416172733356467828393ffc4001501010100000000000000000000000000000405ffc400171100030100"
    "00000000000000000000000000122161ffda000c03010002110311003f0015768c52e12a6a24c53847d988a3"
    "5b00c5d3ffd9"
)


def tell(event: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; it is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def make_record(robot: str, release_version: int) -> bytes:
    """Return an episode record: one step that closes the gripper at once, and fails."""
    now_ns = time.time_ns()
    still = [0.0, 0.0, 0.0, 0.0, 1.0]
    step = {
        "kind": "close",
        "observation": {"pose": [0.1, 0.0, 0.05, 0.0], "opening_m": 0.08, "captured_at_ns": now_ns},
        "wished": still,
        "commanded": still,
        "reached": still,
        "predicted_best": None,
        "predicted_stay": None,
        "decision_ms": 0.0,
    }
    meta = {
        "episode_id": secrets.token_hex(16),
        "robot_id": robot,
        "task": "bin-picking",
        "mode": "random",
        "policy": {"release_version": release_version, "digest": RANDOM_POLICY},
        "started_at_ns": now_ns,
        "finished_at_ns": now_ns,
        "calibration": HAND_EYE_MAP,
        "hand_eye_map": HAND_EYE_MAP,
        "steps": [step],
        "outcome": {
            "label": "failure",
            "opening_after_close_m": 0.0,
            "opening_after_lift_m": 0.0,
            "opening_says_held": False,
            "drop_test_says_held": False,
            "drop_test_score": 0.0,
            "abort_reason": "",
            "reference": None,
        },
        "height_px": 8,
        "width_px": 8,
        "image_bytes": [len(PICTURE)] * 3,
    }
    packed = msgpack.packb(meta)
    return b"GFEP" + struct.pack("<HI", 1, len(packed)) + packed + 3 * PICTURE


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


class Spool:
    """Episodes and tombstones on disk until they are acked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        head = folder / "spool"
        if not head.exists():
            write(head, secrets.token_bytes(16))
            write(folder / "next", b"1")
        self.id = head.read_bytes()

    @property
    def next_sequence(self) -> int:
        return int((self._folder / "next").read_text())

    def put(self, record: bytes) -> int:
        sequence = self._take_sequence()
        write(self._folder / f"{sequence}.record", record)
        return sequence

    def lose(self) -> int:
        sequence = self._take_sequence()
        write(self._folder / f"{sequence}.tombstone", b"lost on purpose")
        return sequence

    def waiting(self, kind: str) -> list[tuple[int, Path]]:
        found = self._folder.glob(f"*.{kind}")
        return sorted((int(path.stem), path) for path in found)

    def forget(self, sequence: int) -> None:
        for kind in ("record", "tombstone"):
            (self._folder / f"{sequence}.{kind}").unlink(missing_ok=True)

    def set_aside(self, sequence: int, reason: str) -> None:
        write(self._folder / f"{sequence}.tombstone", f"refused: {reason}".encode()[:512])
        record = self._folder / f"{sequence}.record"
        if record.exists():
            record.rename(record.with_suffix(".refused"))

    def _take_sequence(self) -> int:
        # Counted up first: a crash in between costs a number, and never gives one twice.
        sequence = self.next_sequence
        write(self._folder / "next", str(sequence + 1).encode())
        return sequence


class Link:
    """A DEALER that opens a new socket where libzmq would not try again."""

    def __init__(self, context: zmq.Context, bundle: Bundle, endpoint: str, bytes_: int) -> None:
        self._context = context
        self._bundle = bundle
        self._endpoint = endpoint
        self._frame_bytes = bytes_
        self._key = bundle.server
        self._reopen: tuple[float, bytes] | None = None
        self.connections = 0
        self._is_connected = False
        self._open()

    def _open(self) -> None:
        self.socket = self._context.socket(zmq.DEALER)
        options = {
            zmq.LINGER: 0,
            zmq.IMMEDIATE: 0,
            zmq.RECONNECT_IVL: 200,
            zmq.RECONNECT_IVL_MAX: 5000,
            zmq.HANDSHAKE_IVL: 10_000,
            zmq.TCP_MAXRT: 20_000,
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: 10,
            zmq.TCP_KEEPALIVE_INTVL: 5,
            zmq.MAXMSGSIZE: self._frame_bytes,
            zmq.CURVE_SERVERKEY: self._key,
            zmq.CURVE_SECRETKEY: self._bundle.secret,
            zmq.CURVE_PUBLICKEY: zmq.curve_public(self._bundle.secret),
        }
        for option, value in options.items():
            self.socket.setsockopt(option, value)
        self._monitor = self.socket.get_monitor_socket(_WATCHED)
        self.socket.connect(self._endpoint)

    def send(self, message: dict[str, Any], *body: bytes) -> bool:
        if not self._is_connected:
            return False
        try:
            self.socket.send_multipart([msgpack.packb(message), *body], zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> tuple[dict[str, Any], bytes] | None:
        try:
            header, *body = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        tell("header", hex=header.hex())
        return msgpack.unpackb(header), b"".join(body)

    def tend(self, now_s: float) -> None:
        while self._monitor.poll(0):
            self._note(recv_monitor_message(self._monitor)["event"], now_s)
        if self._reopen is not None and now_s >= self._reopen[0]:
            self._key, self._reopen = self._reopen[1], None
            self.socket.disable_monitor()
            self._monitor.close(linger=0)
            self.socket.close(linger=0)
            self._open()

    def _note(self, event: int, now_s: float) -> None:
        self._is_connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.connections += 1
            self._bundle.worked(self._key)
            self._reopen = None
        elif self._reopen is not None:
            pass  # libzmq tries again by itself meanwhile, and fails again
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._reopen = (now_s + 5.0, self._key)
        elif event in {
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        }:
            other = self._bundle.other_than(self._key)
            self._reopen = (now_s + (5.0 if other == self._key else 0.5), other)
        elif event == zmq.EVENT_DISCONNECTED:
            self.socket.disconnect(self._endpoint)
            self._reopen = (now_s + 0.2, self._key)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--wire-version", type=int, default=2)
    options = parser.parse_args()
    bundle, spool = Bundle(options.bundle, options.state), Spool(options.state)
    context = zmq.Context()
    deliverer = Deliverer(
        Link(context, bundle, bundle.episodes, MAX_HEADER_BYTES),
        bundle,
        spool,
        options.wire_version,
    )
    fetcher = Fetcher(
        Link(context, bundle, bundle.releases, MAX_HEADER_BYTES + CHUNK_BYTES),
        bundle,
        options.state,
        options.wire_version,
    )
    tell("ready", spool_id=spool.id.hex())
    while turn(deliverer, fetcher, spool, bundle):
        pass


def turn(deliverer: Deliverer, fetcher: Fetcher, spool: Spool, bundle: Bundle) -> bool:
    """Do what is due; return False when standard input has ended."""
    poller = zmq.Poller()
    for readable in (sys.stdin.fileno(), deliverer.link.socket, fetcher.link.socket):
        poller.register(readable, zmq.POLLIN)
    ready = dict(poller.poll(100))
    if sys.stdin.fileno() in ready:
        commands = os.read(sys.stdin.fileno(), 4096)
        if not commands:
            return False
        for command in commands.split():
            if command == b"attempt":
                record = make_record(bundle.name, fetcher.version)
                sequence = spool.put(record)
                tell("spooled", sequence=sequence, digest=hashlib.sha256(record).hexdigest())
            else:
                tell("lost", sequence=spool.lose())
    now_s = time.monotonic()
    for speaker in (deliverer, fetcher):
        speaker.link.tend(now_s)
        speaker.turn(now_s)
    deliverer.release_version = fetcher.version
    return True


if __name__ == "__main__":
    main()
