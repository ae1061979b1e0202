"""A child process that cannot outlive its parent, with a log of its own."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from fleet.words import utc_text

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

# Every process of a one-machine fleet shares few cores: more threads each only get in the way.
SINGLE_THREADED = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
}

# A log is read as it is: no colours in it.
_PLAIN = {"RAY_COLOR_PREFIX": "0", "NO_COLOR": "1"}


class ChildProcess:
    """One process of the fleet, in a session of its own so that Ctrl-C reaches only the parent.

    When the parent dies, however it dies, the kernel sends the child ``end_signal``.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        end_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self._end_signal = end_signal
        self.log = log
        self.peak_resident_mb = 0.0
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, extra_environment: Mapping[str, str] = SINGLE_THREADED) -> None:
        """Start the process; its output is added to the log, below a line that says when."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        parent = os.getpid()
        with self.log.open("ab") as log:
            log.write(f"==== {utc_text(time.time_ns())} UTC: {self.name} starts\n".encode())
            log.flush()  # before what the process itself writes
            self._process = subprocess.Popen(  # noqa: S603 (our own modules)
                [sys.executable, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **_PLAIN, **extra_environment},
                preexec_fn=lambda: die_with(parent, self._end_signal),
            )
        logger.info("process started", extra={"process": self.name, "pid": self.pid})

    @property
    def pid(self) -> int:
        """Process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def exit_status(self) -> int | None:
        """None while the process runs or before it started; negative for a signal."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        """True between start and end."""
        return self._process is not None and self._process.poll() is None

    def measure_memory(self) -> None:
        """Update the peak of resident memory, children included (pages they share count twice)."""
        if not self.running:
            return
        try:
            process = psutil.Process(self.pid)
            family = [process, *process.children(recursive=True)]
            resident = sum(member.memory_info().rss for member in family)
        except psutil.NoSuchProcess:
            return  # one of them just ended; the next measurement will do
        self.peak_resident_mb = max(self.peak_resident_mb, resident / 2**20)

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and self.running:
            self._process.terminate()

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; return the exit status, None when the time is over."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End the process and everything in its session at once."""
        if self._process is None:
            return
        if self.running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the log."""
        if not self.log.is_file():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 20_000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


def die_with(parent: int, end_signal: signal.Signals = signal.SIGKILL) -> None:
    """Run in a child process: ask the kernel to send it a signal when its parent ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, end_signal)
    if os.getppid() != parent:  # it ended before the request was in place
        os._exit(1)
