"""A connection: its socket, and what to do when it fails."""

from __future__ import annotations

from typing import Any

import msgpack
import zmq
from bundle import Bundle
from telling import tell
from zmq.utils.monitor import recv_monitor_message

MAX_HEADER_BYTES = 65_536
_WATCHED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)


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
