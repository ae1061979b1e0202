"""A TCP link between two processes that stops after so many bytes, until it may go on."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class MeteredLink:
    """Forwards connections to a server; of what the server sends, only ``allow``ed bytes pass."""

    def __init__(self, server: str) -> None:
        """Listen for robots of the server at an endpoint such as ``tcp://127.0.0.1:7447``."""
        self._server_port = int(server.rsplit(":", 1)[1])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._allowed: float = float("inf")
        self.passed = 0
        """Bytes from the server that passed."""
        self._meter = threading.Condition()
        self._open: list[socket.socket] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def stopped(self) -> bool:
        """True once the allowance is used up."""
        return self.passed >= self._allowed

    def allow(self, more_bytes: float) -> None:
        """Let so many bytes more pass, counted from now."""
        with self._meter:
            self._allowed = self.passed + more_bytes
            self._meter.notify_all()

    def cut(self) -> None:
        """Break every open connection; new ones are accepted."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.allow(float("inf"))
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            for source, sink, metered in ((client, server, False), (server, client, True)):
                arguments = (source, sink, metered)
                threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, metered: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if metered:
                    self._wait_for_allowance(len(data))
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _wait_for_allowance(self, size: int) -> None:
        with self._meter:
            self._meter.wait_for(lambda: self.passed < self._allowed)
            self.passed += size
