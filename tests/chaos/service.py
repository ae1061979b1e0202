"""A process that is started again whenever it ends, as systemd does with ``Restart=always``."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic

from fleet.child_process import SINGLE_THREADED, ChildProcess

logger = logging.getLogger(__name__)

RESTART_AFTER_S = 1.0


class Service:
    """One unit of the fleet. Nothing of it outlives this process."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] = SINGLE_THREADED,
    ) -> None:
        self.name = name
        self._environment = environment
        self.starts = 0
        self._process = ChildProcess(name, arguments, log=log, end_signal=signal.SIGTERM)
        self._start_at_s: float | None = None
        self._is_wanted = False

    def start(self) -> None:
        self._is_wanted = True
        self._start()

    def _start(self) -> None:
        self._process.start(self._environment)
        self.starts += 1
        self._start_at_s = None

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    def tend(self) -> None:
        """Start the process again a second after it ended."""
        if not self._is_wanted or self._process.running:
            return
        if self._start_at_s is None:
            logger.info("%s ended with status %s", self.name, self._process.exit_status)
            self._start_at_s = monotonic() + RESTART_AFTER_S
        elif monotonic() >= self._start_at_s:
            self._start()

    def ask_to_end(self) -> None:
        """Send SIGTERM; it is not started again."""
        self._is_wanted = False
        self._process.ask_to_end()

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit status, None when it did not end in time."""
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL; only ``tend`` starts it again."""
        self._process.kill()

    def end_at_once(self) -> None:
        """SIGKILL, for good."""
        self._is_wanted = False
        self._process.kill()
