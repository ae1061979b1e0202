"""The client's side of ZMTP 3.1 with CURVE, by hand: to say what libzmq never would.

Follows rfc.zeromq.org/spec/23 (ZMTP) and /26 (CurveZMQ); shares no code with libzmq.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Self

from nacl.public import Box, PrivateKey, PublicKey
from zmq.utils import z85

from protocol.security import CurveKeys
from tests.waiting import PATIENCE_S

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
_COMMAND, _MESSAGE, _LONG = 4, 0, 2
_DEALER = b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"


class CurveClient:
    """A TCP connection on which the handshake is done; what follows is up to the test."""

    def __init__(self, endpoint: str, keys: CurveKeys, server_public: bytes) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._nonce = 0
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self._socket.sendall(_GREETING)
        self._receive(64)
        self._shake_hands(PrivateKey(z85.decode(keys.secret)), PublicKey(z85.decode(server_public)))

    def send_part(self, body: bytes, *, more: bool) -> None:
        """Send one part of a message; with ``more`` it is not the last."""
        sealed = self._seal(b"CurveZMQMESSAGEC", bytes([more]) + body, self._box)
        self._send(_MESSAGE, b"\x07MESSAGE" + sealed)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _shake_hands(self, own: PrivateKey, server: PublicKey) -> None:
        passing = PrivateKey.generate()
        to_server = Box(passing, server)
        hello = bytes([1, 0]) + bytes(72) + bytes(passing.public_key)
        sealed = self._seal(b"CurveZMQHELLO---", bytes(64), to_server)
        self._send(_COMMAND, b"\x05HELLO" + hello + sealed)

        welcome = self._receive_frame().removeprefix(b"\x07WELCOME")
        opened = to_server.decrypt(welcome[16:], b"WELCOME-" + welcome[:16])
        server_passing, cookie = PublicKey(opened[:32]), opened[32:]

        self._box = Box(passing, server_passing)
        salt = os.urandom(16)
        vouched = bytes(passing.public_key) + bytes(server)
        vouch = Box(own, server_passing).encrypt(vouched, b"VOUCH---" + salt).ciphertext
        initiate = bytes(own.public_key) + salt + vouch + _DEALER
        sealed = self._seal(b"CurveZMQINITIATE", initiate, self._box)
        self._send(_COMMAND, b"\x08INITIATE" + cookie + sealed)
        assert self._receive_frame().startswith(b"\x05READY")

    def _seal(self, prefix: bytes, content: bytes, box: Box) -> bytes:
        self._nonce += 1
        short = struct.pack(">Q", self._nonce)
        return short + box.encrypt(content, prefix + short).ciphertext

    def _send(self, kind: int, content: bytes) -> None:
        if len(content) < 256:
            head = bytes([kind, len(content)])
        else:
            head = bytes([kind | _LONG]) + struct.pack(">Q", len(content))
        self._socket.sendall(head + content)

    def _receive_frame(self) -> bytes:
        kind, size = self._receive(2)
        if kind & _LONG:
            (size,) = struct.unpack(">Q", bytes([size]) + self._receive(7))
        return self._receive(size)

    def _receive(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            piece = self._socket.recv(size - len(content))
            if not piece:
                raise ConnectionResetError("the server closed the connection")
            content += piece
        return content
