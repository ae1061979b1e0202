"""A Python process that py-spy watches from its first instruction to its end.

py-spy starts the process itself: where the kernel lets a user look only into processes below, as
most do, that needs no rights.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

RATE_HZ = 100
START_S = 30.0
END_S = 60.0
_ASK_AGAIN_S = 3.0
_FORBIDDEN = ("Permission Denied", "Operation not permitted", "EPERM")
_WHAT_TO_DO = """\
the kernel does not let py-spy look into its own child process. Any one of these lets it:
  * run as root: sudo make profile
  * sudo sysctl kernel.yama.ptrace_scope=1 (0 to 3; above 1 only root may look)
  * in a container: --cap-add SYS_PTRACE (Docker), or securityContext.capabilities.add SYS_PTRACE"""


class ProfilingError(Exception):
    """A profile could not be taken; says what to do."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The process that is watched."""

    spy: subprocess.Popen[bytes]
    process: psutil.Process
    log: Path

    def stop(self) -> None:
        """Ask the process to end by SIGTERM; py-spy writes what it saw and ends with it."""
        deadline_s = time.monotonic() + END_S
        while time.monotonic() < deadline_s:
            # More than once: a signal that comes while py-spy holds the process is lost.
            with suppress(psutil.NoSuchProcess):
                self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.spy.wait(_ASK_AGAIN_S)
                return
        raise ProfilingError(f"it does not end {END_S:.0f} s after SIGTERM:\n{self._said()}")

    def check(self) -> None:
        """Raise ProfilingError if it has ended."""
        if self.spy.poll() is not None:
            raise ProfilingError(f"what is watched ended too early:\n{self._said()}")

    def thread_seconds(self) -> dict[str, float]:
        """Return the CPU seconds of every thread, also of those that no Python runs on."""
        names = {}
        for thread in self.process.threads():
            path = Path(f"/proc/{self.process.pid}/task/{thread.id}/comm")
            name = f"{path.read_text().strip()} ({thread.id})"
            names[name] = thread.user_time + thread.system_time
        return names

    def main_thread_seconds(self) -> float:
        """Return the CPU seconds of the main thread so far."""
        times = {one.id: one.user_time + one.system_time for one in self.process.threads()}
        return times[self.process.pid]

    def _said(self) -> str:
        return explain(self.log.read_text(errors="replace"))


@contextmanager
def watched(arguments: Sequence[str], output: Path, cwd: Path) -> Iterator[Watched]:
    """Run ``python arguments`` under py-spy; nothing of it is left when the context closes.

    Args:
        arguments: what follows the interpreter.
        output: the profile, in the format of speedscope.
        cwd: where it runs.

    Raises:
        ProfilingError: py-spy is missing, or may not look into the process.
    """
    spy_path = Path(sys.executable).with_name("py-spy")
    if not spy_path.exists():
        raise ProfilingError(f"{spy_path} is missing: pip install 'graspfleet[development]'")
    log = output.with_suffix(".log")
    options = ["record", "--function", "--format", "speedscope", "--rate", str(RATE_HZ)]
    command = [str(spy_path), *options, "--output", str(output), "--", sys.executable, *arguments]
    with log.open("wb") as lines:
        spy = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=lines, stderr=lines
        )
    try:
        yield Watched(spy=spy, process=_child_of(spy, log), log=log)
    finally:
        _end(spy)


def explain(said: str) -> str:
    """Return what py-spy wrote, and what to do where the kernel forbids it to look."""
    tail = "\n".join(said.strip().splitlines()[-12:])
    return f"{tail}\n{_WHAT_TO_DO}" if any(word in said for word in _FORBIDDEN) else tail


def _child_of(spy: subprocess.Popen[bytes], log: Path) -> psutil.Process:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and spy.poll() is None:
        children = psutil.Process(spy.pid).children()
        if children:
            return children[0]
        time.sleep(0.05)
    raise ProfilingError(f"py-spy started nothing:\n{explain(log.read_text(errors='replace'))}")


def _end(spy: subprocess.Popen[bytes]) -> None:
    if spy.poll() is not None:
        return
    for child in psutil.Process(spy.pid).children(recursive=True):
        child.kill()
    spy.kill()
    spy.wait()
