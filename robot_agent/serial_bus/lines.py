"""Devices that answer line by line: G-code controllers and our own gripper firmware."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from protocol.errors import RobotError
from robot_agent.serial_bus.line_format import (
    Answer,
    Line,
    LineKind,
    parse_line,
    sealed,
    unsealed,
)
from robot_agent.serial_bus.named_errors import named_errors
from robot_agent.serial_bus.port import BusCounters, SerialPort

MAX_LINE_BYTES = 256
"""Longer ones are noise, or a device at another baud rate."""
MAX_UNASKED = 64
TRIES = 3
SLICE_S = 0.01
"""A wait for an answer is interrupted so often."""
HEAR_S = 0.001

_LAST_NUMBER = 9999
_NOBODY = -1
"""The number of no request."""


class LineReply:
    """Collects lines until one ends the request."""

    def __init__(
        self,
        *,
        number: int | None,
        is_sealed: bool,
        rest: bytes = b"",
        banner: re.Pattern[bytes] | None = None,
    ) -> None:
        """Wait for the answer to one request.

        Args:
            number: of the request, None where requests have none.
            is_sealed: whether lines carry a checksum; others are refused then.
            rest: the beginning of a line that arrived before.
            banner: found in what a device says when it has started, None where that is not known.
        """
        self._number = number
        self._banner = banner
        self._is_sealed = is_sealed
        self._notes: list[str] = []
        self.rest = rest
        self.answer: Answer | None = None
        self.unasked: list[Line] = []
        """Events, and alarms that answered nothing."""
        self.restarts = 0
        """How often the device said that it has started."""
        self.garbage_bytes = 0
        self.checksum_errors = 0

    def feed(self, data: bytes) -> bool:
        """Take what arrived; True once the answer is there, or none is to come: a device that has
        started anew knows nothing of what it was asked.
        """
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self._take(line.rstrip(b"\r"))
        if len(self.rest) > MAX_LINE_BYTES:
            self.garbage_bytes += len(self.rest)
            self.rest = b""
        return self._number != _NOBODY and (self.answer is not None or self.restarts > 0)

    def _take(self, data: bytes) -> None:
        # Before all else: it may stand behind half a line, or what a line says while it has no
        # supply.
        if self._banner is not None and self._banner.search(data):
            self.restarts += 1
            return
        text = self._text_of(data)
        if text is None:
            return
        line = parse_line(text)
        # Whoever is asked, a device that says ALARM has stopped.
        ends = line.kind == LineKind.ALARM or (
            line.kind in (LineKind.OK, LineKind.ERROR) and self._is_for_us(line)
        )
        if ends and self.answer is None:
            self.answer = Answer(kind=line.kind, text=line.text, notes=tuple(self._notes))
        elif line.kind in (LineKind.EVENT, LineKind.ALARM):
            self.unasked.append(line)
        elif line.kind == LineKind.NOTE and self._is_for_us(line):
            self._notes.append(line.text)
        else:
            self.garbage_bytes += len(data)

    def _text_of(self, data: bytes) -> str | None:
        """Return the line's text; None for what is empty, damaged or no text at all."""
        if not data.strip():
            return None
        is_text = len(data) <= MAX_LINE_BYTES and data.isascii() and data.decode().isprintable()
        if not is_text:
            self.garbage_bytes += len(data)
            return None
        text = data.decode().strip()
        if not self._is_sealed:
            return text
        opened = unsealed(text)
        self.checksum_errors += opened is None
        return opened

    def _is_for_us(self, line: Line) -> bool:
        if line.number is not None:
            return line.number == self._number
        # Some errors come without a number; an ``ok`` without one answers somebody else.
        return self._number is None or line.kind in (LineKind.ERROR, LineKind.NOTE)


class LinePort:
    """Requests and answers in lines, one at a time.

    Threads take turns, but for requests with ``passing``: who may end those from another thread
    must not have to wait for them.
    """

    def __init__(
        self,
        port: SerialPort,
        *,
        name: str,
        is_numbered: bool,
        is_sealed: bool = False,
        banner: re.Pattern[bytes] | None = None,
    ) -> None:
        """Args: ``name`` is the robot's, for what is said of it; the others as for LineReply."""
        self._port = port
        self._name = name
        self._is_numbered = is_numbered
        self._is_sealed = is_sealed
        self._banner = banner
        self._banners = 0
        self._turn = threading.Lock()
        self._number = 0
        self._rest = b""
        self._unasked: deque[Line] = deque(maxlen=MAX_UNASKED)

    def open(self) -> None:
        """Open the port. Raises ConfigurationError or PortGoneError as SerialPort does."""
        with named_errors(self._name):
            self._port.open()

    @property
    def counters(self) -> BusCounters:
        """What happened on the port so far."""
        return self._port.counters

    @property
    def lives(self) -> int:
        """How often the device has started, or may have: it said so, or its port was gone."""
        return self._banners + self._port.counters.reopened

    def ask(
        self,
        command: str,
        *,
        timeout_s: float,
        tries: int = TRIES,
        life: int | None = None,
        passing: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> Answer:
        """Send a command and return its answer.

        Args:
            command: without number, checksum and end of line.
            timeout_s: for each try.
            tries: 1 for a command that must not be carried out twice.
            life: the one of ``lives`` that this is meant for: it is not sent in another one. None
                if it may be.
            passing: entered to send, and often while waiting; what it raises ends the wait.

        Raises:
            RobotError: no answer, the port is gone, or the device has started anew.
        """
        if passing is not None:
            return self._ask(command, timeout_s, tries, life, passing)
        with self._turn:
            return self._ask(command, timeout_s, tries, life, nullcontext)

    def unasked(self) -> list[Line]:
        """Return, once, what the device said unasked until now: events, alarms, lone errors."""
        # In turn, or this would take the answer that another thread waits for.
        with self._turn:
            self._hear()
        lines = list(self._unasked)
        self._unasked.clear()
        return lines

    def send_now(self, data: bytes) -> None:
        """Send bytes that act at once and that nobody answers.

        Raises:
            RobotError: the port is gone.
        """
        with named_errors(self._name):
            self._port.send(data, keeps_unread=True)

    def close(self) -> None:
        """Let go of the port. May be called twice."""
        self._port.close()

    def _ask(
        self,
        command: str,
        timeout_s: float,
        tries: int,
        life: int | None,
        passing: Callable[[], AbstractContextManager[None]],
    ) -> Answer:
        counters = self._port.counters
        for attempt in range(tries):
            counters.retries += attempt > 0
            with passing():
                self._hear()
                self._check_life(life)
                reply = self._send(command)
            self._await(reply, timeout_s, passing)
            self._check_life(life)
            if reply.answer is not None:
                return reply.answer
            counters.timeouts += 1
        raise self._silence(command, tries * timeout_s, reply)

    def _hear(self) -> None:
        """Take what came since the last request, so that it is no part of the next answer."""
        reply = self._reply_to(_NOBODY)
        with named_errors(self._name):
            self._port.listen(reply, timeout_s=HEAR_S)
        self._note(reply)
        if reply.answer is not None and reply.answer.kind != LineKind.OK:
            self._unasked.append(Line(kind=reply.answer.kind, text=reply.answer.text))

    def _send(self, command: str) -> LineReply:
        number = None
        if self._is_numbered:
            self._number = number = self._number % _LAST_NUMBER + 1
        text = command if number is None else f"#{number} {command}"
        with named_errors(self._name):
            # What came since is heard with the answer: it may be that the device has started.
            self._port.send(
                (sealed(text) if self._is_sealed else text).encode("ascii") + b"\n",
                keeps_unread=True,
            )
        return self._reply_to(number)

    def _reply_to(self, number: int | None) -> LineReply:
        return LineReply(
            number=number, is_sealed=self._is_sealed, rest=self._rest, banner=self._banner
        )

    def _check_life(self, life: int | None) -> None:
        if life is not None and life != self.lives:
            raise RobotError(
                f"{self._name}: the device on {self._port.path} restarted, or its port was gone: "
                "it has forgotten what it was told; is its supply weak?"
            )

    def _await(
        self,
        reply: LineReply,
        timeout_s: float,
        passing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        end_s = time.monotonic() + timeout_s
        try:
            while (left_s := end_s - time.monotonic()) > 0:
                with named_errors(self._name):
                    if self._port.listen(reply, timeout_s=min(left_s, SLICE_S)):
                        return
                # Not while listening: who wants to stop the robot would wait for the port.
                with passing():
                    pass
        finally:
            self._note(reply)

    def _note(self, reply: LineReply) -> None:
        self._rest = reply.rest
        self._unasked.extend(reply.unasked)
        self._banners += reply.restarts
        self._port.counters.garbage_bytes += reply.garbage_bytes
        self._port.counters.checksum_errors += reply.checksum_errors

    def _silence(self, command: str, waited_s: float, reply: LineReply) -> RobotError:
        heard = f"{reply.garbage_bytes} bytes that are no answer"
        if reply.checksum_errors:
            heard += f", {reply.checksum_errors} lines with a wrong checksum"
        return RobotError(
            f"{self._name}: the device on {self._port.path} gave no answer to {command!r} within "
            f"{waited_s:.1f} s (heard: {heard}): check its supply, the baud rate and its firmware"
        )
