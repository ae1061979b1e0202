"""A TCP link through user space that can be given every fault a network has."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

_PIECE_BYTES = 4096
_SEGMENT_BYTES = 1400
_TICKS_PER_S = 20
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultyLink:
    """Forwards connections to one port. Faults may be set at any time, from any thread."""

    def __init__(self, to_port: int, to_host: str = "127.0.0.1") -> None:
        self._to = (to_host, to_port)
        self.delay_s = 0.0
        """How much later than it was sent everything arrives, each way."""
        self.bytes_per_s = 0.0
        """How much of each connection passes each way; 0 is no limit."""
        self.is_swallowing = False
        """Bytes are taken and vanish, as behind a radio link that is gone."""
        self.refuses = False
        """New connections are reset at once."""
        self.accepted = 0
        """Connections so far."""
        self.passed = 0
        """Bytes so far, both ways."""
        self._cut_at: float = float("inf")
        self._transports: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._reading = asyncio.Event()
        self._reading.set()
        listener = socket.create_server(("127.0.0.1", 0))
        # Large buffers would take megabytes that a slow or stopped link does not, and loopback's
        # segments of 64 KiB would leave them without a window for as long as real ones never do.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _PIECE_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
        self.endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, args=(listener,), daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Break every connection with RST; new ones are accepted."""
        self._do(self._reset)

    def reset_after(self, more_bytes: int) -> None:
        """Break every connection when so many bytes more have passed, wherever that is."""
        self._cut_at = self.passed + more_bytes

    def stop_reading(self, is_stopped: bool) -> None:
        """Take no more bytes, so that TCP holds both ends back; or go on."""
        self._do(self._reading.clear if is_stopped else self._reading.set)

    def close(self) -> None:
        """End it."""
        self._do(self._loop.stop)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _do(self, action: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(action)

    def _run(self, listener: socket.socket) -> None:
        self._loop.run_until_complete(
            asyncio.start_server(self._carry_both_ways, sock=listener, limit=_PIECE_BYTES)
        )
        self._loop.run_forever()
        self._reset()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        listener.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _reset(self) -> None:
        for transport in self._transports:
            near = transport.get_extra_info("socket")
            if near.fileno() >= 0:  # not closed yet
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        self._transports.clear()

    async def _carry_both_ways(
        self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter
    ) -> None:
        self._transports.add(near_out.transport)
        self.accepted += 1
        if self.refuses:
            self._reset()
            return
        try:
            far_in, far_out = await asyncio.open_connection(*self._to, limit=_PIECE_BYTES)
        except OSError:
            near_out.transport.abort()
            return
        self._transports.add(far_out.transport)
        await asyncio.gather(self._carry(near_in, far_out), self._carry(far_in, near_out))

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                await self._reading.wait()
                piece_bytes = _PIECE_BYTES
                if self.bytes_per_s:
                    await asyncio.sleep(1 / _TICKS_PER_S)
                    piece_bytes = max(1, int(self.bytes_per_s / _TICKS_PER_S))
                data = await source.read(piece_bytes)
                if not data:
                    break
                if not self.is_swallowing:
                    await self._pass(data, sink)
        self._transports.discard(sink.transport)
        sink.close()

    async def _pass(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        allowed = int(min(len(data), self._cut_at - self.passed))
        self.passed += allowed
        if self.delay_s:
            self._loop.call_later(self.delay_s, sink.write, data[:allowed])
        else:
            sink.write(data[:allowed])
            await sink.drain()
        if self.passed >= self._cut_at:
            self._cut_at = float("inf")
            # One turn of the loop later, so that the last bytes before the cut are on their way.
            self._loop.call_soon(self._reset)
