"""One system under one load, in processes of its own that a deadline ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.peers.contract import CONNECT_S, Count, Load
from tests.benchmarks.peers.environments import python_for
from tests.benchmarks.peers.systems import System

ROOT = Path(__file__).parents[3]
WORK = ROOT / "runs" / "bench" / "work"
"""Not the system's folder for temporary files: that may be in RAM, where a sync costs nothing."""
START_S = 60.0
STOP_S = 10.0
_SHOWN_LINES = 8
_SITE = "site"
_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    # Every agent is a driver of its own, and the token that one process makes is not the others'.
    "RAY_AUTH_MODE": "disabled",
}


class SystemFailedError(Exception):
    """A system did not start, crashed or hung; says what it wrote last."""


def measure(system: System, load: Load, environments: Path) -> Count:
    """Start the system, put the load on it, end it.

    Raises:
        EnvironmentFailedError: it cannot be installed.
        SystemFailedError: it did not start, crashed, or did not answer in time.
    """
    python = python_for(system.pins, environments)
    with _folder() as folder, _server(system, python, folder) as server:
        address = server.answer(START_S)
        load_s = START_S + CONNECT_S + load.warm_up_s + load.seconds
        given = json.dumps(asdict(load)), json.dumps(address)
        with _adapter(system, python, folder, "load", *given) as agents:
            return Count(**agents.answer(load_s))


@contextmanager
def served(system: System) -> Iterator[Path]:
    """Serve one of our own systems; give the folder of its site.

    Raises:
        SystemFailedError: it did not start.
    """
    with _folder() as folder, _server(system, Path(sys.executable), folder) as server:
        server.answer(START_S)
        yield folder / _SITE


@contextmanager
def _folder() -> Iterator[Path]:
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as name:
        yield Path(name)


def _server(system: System, python: Path, folder: Path) -> AbstractContextManager[_Running]:
    site = folder / _SITE
    site.mkdir()
    return _adapter(system, python, folder, "serve", str(site), system.variant)


@dataclass(frozen=True, kw_only=True)
class _Running:
    """An adapter's process."""

    name: str
    process: subprocess.Popen[bytes]
    answer_file: Path
    log: Path

    def answer(self, within_s: float) -> dict[str, Any]:
        """Return what it answers.

        Raises:
            SystemFailedError: it ended, or the time is over.
        """
        deadline_s = time.monotonic() + within_s
        while not self.answer_file.exists():
            status = self.process.poll()
            if status is not None and not self.answer_file.exists():
                raise SystemFailedError(f"{self.name} ended with status {status}: {self._said()}")
            if time.monotonic() > deadline_s:
                raise SystemFailedError(
                    f"{self.name} did not answer within {within_s:.0f} s: {self._said()}"
                )
            time.sleep(0.02)
        return dict(json.loads(self.answer_file.read_text()))

    def _said(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-_SHOWN_LINES:]) or "it wrote nothing"


@contextmanager
def _adapter(
    system: System, python: Path, folder: Path, command: str, *arguments: str
) -> Iterator[_Running]:
    answer, log = folder / f"{command}.json", folder / f"{command}.log"
    module = f"tests.benchmarks.peers.{system.module}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), "-m", module, command, str(answer), *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=os.environ | _SETTINGS,
        )
    try:
        name = f"{system.name}, {command}"
        yield _Running(name=name, process=process, answer_file=answer, log=log)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end by itself, then end it and all that it started."""
    assert process.stdin is not None
    family = _descendants(process.pid)
    process.stdin.close()
    try:
        process.wait(STOP_S if process.poll() is None else 0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in family:
        # What has ended meanwhile raises: psutil knows a number that was given out again.
        with suppress(psutil.NoSuchProcess):
            one.kill()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
