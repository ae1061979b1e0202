"""One serial port: opened for this process alone, with a deadline on every wait."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import serial

from protocol.errors import ConfigurationError, PortGoneError
from robot_agent.serial_bus.echo import EchoFilter
from robot_agent.serial_bus.opening import open_alone

logger = logging.getLogger(__name__)

READ_BYTES = 4096
WRITE_TIMEOUT_S = 0.1
"""An adapter that takes no bytes for so long is as good as gone."""
QUIET_S = 0.003
"""After an exchange without a whole answer the line must be silent for so long, or the rest of that
answer would be taken for the next one."""
DRAIN_S = 0.03
"""A device that babbles on for longer is written to all the same."""
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.1, 2.0


class Reply(Protocol):
    """Collects the answer to one request."""

    def feed(self, data: bytes) -> bool:
        """Take what arrived; True once nothing more is to come."""
        ...


@dataclass(kw_only=True, slots=True)
class BusCounters:
    """What happened on a port since it was made."""

    transactions: int = 0
    retries: int = 0
    timeouts: int = 0
    checksum_errors: int = 0
    garbage_bytes: int = 0
    """Bytes that belong to no packet."""
    reopened: int = 0
    """Times the port came back after it was gone."""


class SerialPort:
    """A port by its path, 8N1. One transaction at a time, whatever the threads.

    A port that vanished is opened again when it is next used: with a stable path (such as one in
    ``/dev/serial/by-id``) pulling the cable and plugging it in costs no more than the attempt. One
    that another program has by then, or that is not ours yet, counts as gone too.

    Waits for bytes are in real time, because a wire is; ``monotonic_s`` times when to look for a
    port that is gone.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        baud: int,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self.baud = baud
        self.counters = BusCounters()
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._serial: serial.Serial | None = None
        self._fd = -1
        self._poll = select.poll()
        self._echo = EchoFilter()
        self._is_disturbed = False
        self._backoff_s = FIRST_BACKOFF_S
        self._look_again_s: float | None = None
        self._had_it = False
        self._why_gone = ""

    def open(self) -> None:
        """Open the port now instead of at its first use.

        Raises:
            ConfigurationError: another process has it, it may not be opened, or is no serial port.
            PortGoneError: there is no such port now.
        """
        with self._lock:
            self._be_open()

    def exchange(self, request: bytes, reply: Reply, *, timeout_s: float) -> bool:
        """Send ``request`` and feed what comes back to ``reply``; False if it never was whole.

        An echo of the request, as half-duplex adapters may send, is not fed. ``timeout_s`` begins
        when the request is written, and covers the last byte of the answer.

        Raises:
            PortGoneError: the port vanished, or another program took it before it was opened
                again; a later use opens it again.
            ConfigurationError: as for ``open``, where it was never open.
        """
        with self._in_turn():
            self._drain()
            self._write(request)
            is_whole = self._receive(reply, time.monotonic() + timeout_s)
            if is_whole:
                self._echo.answered()
            self._is_disturbed = not is_whole
            self.counters.timeouts += not is_whole
            return is_whole

    def send(self, request: bytes, *, keeps_unread: bool = False) -> None:
        """Send what nobody answers.

        Args:
            request: what is sent.
            keeps_unread: leave what came before for the next ``listen``.

        Raises:
            PortGoneError: the port vanished, or another program took it before it was opened
                again; a later use opens it again.
            ConfigurationError: as for ``open``, where it was never open.
        """
        with self._in_turn():
            if not keeps_unread:
                self._drain()
            self._write(request)

    def listen(self, reply: Reply, *, timeout_s: float) -> bool:
        """Feed what comes, asked for or not, to ``reply``; False if it was not whole in time.

        For devices whose answers take long: between two calls another thread gets its turn.

        Raises:
            PortGoneError: the port vanished, or another program took it before it was opened
                again; a later use opens it again.
            ConfigurationError: as for ``open``, where it was never open.
        """
        with self._in_turn():
            return self._receive(reply, time.monotonic() + timeout_s)

    def wire_s(self, count: int) -> float:
        """Return how long ``count`` bytes take on the wire, start and stop bits included."""
        return count * 10 / self.baud

    def close(self) -> None:
        """Let go of the port; a later use opens it again. May be called twice."""
        with self._lock:
            self._let_go()
            self._had_it = False

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Have the port open and for oneself; what fails on it means that it is gone."""
        with self._lock:
            self._be_open()
            try:
                yield
            except OSError as error:
                raise self._gone(error) from error

    def _be_open(self) -> None:
        if self._serial is not None:
            return
        now_s = self._monotonic_s()
        if self._look_again_s is not None and now_s < self._look_again_s:
            raise PortGoneError(
                f"{self._why_gone or f'{self.path}: the port is gone: is the cable in?'}; looked "
                f"for again in {self._look_again_s - now_s:.1f} s"
            )
        try:
            self._serial = open_alone(self.path, self.baud)
        except (PortGoneError, ConfigurationError) as error:
            if isinstance(error, ConfigurationError) and not self._had_it:
                raise
            self._look_again_s = now_s + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, LAST_BACKOFF_S)
            self._note_why(str(error))
            raise PortGoneError(str(error)) from error
        self._fd = self._serial.fileno()
        self._poll.register(self._fd, select.POLLIN)
        self._echo = EchoFilter()
        self._backoff_s = FIRST_BACKOFF_S
        self._had_it, self._why_gone = True, ""
        if self._look_again_s is not None:
            self._look_again_s = None
            self.counters.reopened += 1
            logger.warning("serial port is back", extra={"port": str(self.path)})

    def _note_why(self, why: str) -> None:
        """Say once why the port cannot be had again, and once more if that changes."""
        if why != self._why_gone and self._had_it:
            logger.warning("serial port is not back", extra={"port": str(self.path), "why": why})
        self._why_gone = why

    def _drain(self) -> None:
        """Take what lies about from before, so that it is no part of the next answer."""
        wait_s = QUIET_S if self._is_disturbed else 0.0
        end_s = time.monotonic() + DRAIN_S
        while (stale := self._read(wait_s)) and time.monotonic() < end_s:
            self.counters.garbage_bytes += len(self._echo.strip(stale))

    def _write(self, request: bytes) -> None:
        self.counters.transactions += 1
        self._echo.expect(request)
        rest = request
        end_s = time.monotonic() + WRITE_TIMEOUT_S
        while rest:
            with suppress(BlockingIOError):
                rest = rest[os.write(self._fd, rest) :]
            if rest:
                if time.monotonic() > end_s:
                    raise OSError(errno.ETIMEDOUT, f"took no bytes for {WRITE_TIMEOUT_S} s")
                select.select([], [self._fd], [], WRITE_TIMEOUT_S)

    def _receive(self, reply: Reply, end_s: float) -> bool:
        left_s = 1.0
        while left_s > 0:
            # What has come is taken, also where this thread did not get its turn in time.
            left_s = max(0.0, end_s - time.monotonic())
            data = self._echo.strip(self._read(left_s))
            if data and reply.feed(data):
                return True
        held = self._echo.give_up()
        return bool(held) and reply.feed(held)

    def _read(self, timeout_s: float) -> bytes:
        """Return what is there, waiting at most ``timeout_s``; b"" if nothing came."""
        is_ready = bool(timeout_s and self._poll.poll(timeout_s * 1000))
        if timeout_s and not is_ready:
            return b""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return b""
        if is_ready and not data:
            # A device that was pulled out is always ready, and says nothing.
            raise OSError(errno.EIO, "end of file")
        return data

    def _gone(self, error: OSError) -> PortGoneError:
        self._let_go()
        self._look_again_s = self._monotonic_s()
        logger.error("serial port is gone", extra={"port": str(self.path), "error": str(error)})
        return PortGoneError(
            f"{self.path}: the port is gone ({error.strerror}): check cable and adapter; it is "
            "opened again as soon as it is back under this path"
        )

    def _let_go(self) -> None:
        if self._serial is None:
            return
        self._poll.unregister(self._fd)
        with suppress(OSError):
            self._serial.close()
        self._serial, self._fd = None, -1
