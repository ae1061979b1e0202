"""A release server on a folder with a registry, and robots' bare sockets."""

from __future__ import annotations

from pathlib import Path

import zmq

from learner.releases.server import ReleaseServer
from protocol.codec import decode_message, encode_message
from protocol.messages import FromReleaseServer
from protocol.security import CurveKeys
from protocol.sockets import SocketLimits, make_dealer
from tests.releases import SIGNING_KEY, enrol, make_curve_keys, write_secret

SERVER_KEYS = make_curve_keys()


class Fleet:
    """A folder with a registry, servers on it, and robots' bare sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = zmq.Context()
        self.servers: list[ReleaseServer] = []
        self.keys = make_curve_keys()
        self.registry = enrol(folder / "registry", "robot-1", self.keys)

    def server(self, endpoint: str = "tcp://127.0.0.1:*", keep: int = 3) -> ReleaseServer:
        server = ReleaseServer(
            endpoint=endpoint,
            server_secret=write_secret(self.folder / "server.secret", SERVER_KEYS),
            registry=self.registry,
            folder=self.folder / "releases",
            keep=keep,
            signing_key=SIGNING_KEY,
        )
        server.start()
        self.servers.append(server)
        return server

    def operator(self, server: ReleaseServer) -> zmq.Socket[bytes]:
        keys = make_curve_keys()
        self.registry.enrol(f"operator-{len(self.servers)}", keys.public.decode(), role="operator")
        return self.robot(server, keys)

    def robot(self, server: ReleaseServer, keys: CurveKeys | None = None) -> zmq.Socket[bytes]:
        limits = SocketLimits(frame_bytes=2**22)
        socket = make_dealer(self.context, keys or self.keys, SERVER_KEYS.public, limits)
        socket.connect(server.endpoint)
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.setsockopt(zmq.SNDTIMEO, 10_000)
        return socket

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "releases").glob("*"))

    def close(self) -> None:
        for server in self.servers:
            server.close()
        self.context.destroy(linger=0)


def receive(socket: zmq.Socket[bytes]) -> tuple[object, bytes]:
    frames = socket.recv_multipart()
    return decode_message(frames[0], FromReleaseServer), b"".join(frames[1:])


def ask(socket: zmq.Socket[bytes], message: object) -> tuple[object, bytes]:
    socket.send(encode_message(message))
    return receive(socket)
