"""On what, with what and how busy a benchmark ran."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import psutil

SAMPLE_S = 5.0
_PACKAGES = ("numpy", "pyzmq", "lmdb", "msgspec", "onnxruntime", "torch", "ray", "mujoco")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What figures must be read with."""

    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    python: str
    packages: dict[str, str]
    commit: str
    """With "+" where files have changed since."""
    date: str
    load_before: float
    """Runnable processes in the mean of the minute before; of others, then."""
    load_during: list[float]
    """The same every few seconds while it ran, its own processes included."""


class LoadWatch:
    """Samples the load average on a thread of its own while the context is open."""

    def __init__(self) -> None:
        self.before = os.getloadavg()[0]
        self.during: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> LoadWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.during.append(round(os.getloadavg()[0], 2))


def describe(load: LoadWatch) -> Machine:
    """Return what this machine is."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        kernel=platform.release(),
        python=sys.version.split()[0],
        packages={name: _version(name) for name in _PACKAGES},
        commit=_commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        load_before=round(load.before, 2),
        load_during=load.during,
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _commit() -> str:
    """Return the commit of this checkout; "none" outside of one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return "none"
    changes = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True
    )
    return head.stdout.strip() + "+" * bool(changes.stdout)
