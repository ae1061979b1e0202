"""A fuzzing campaign: every target in turn, in processes of their own, on all cores."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.fuzz.fuzz_target import FuzzTarget

ROOT = Path(__file__).parents[2]
REGRESSIONS = Path(__file__).parent / "regressions"
SLICE_S = 60.0
"""A process ends after so long, keeps its corpus, and another target has its turn."""
STUCK_S = 60
"""An input that waits for longer, or computes where Python cannot interrupt it, is a crash; one
that computes in Python ends sooner, by the worker's own limit."""
MAX_CRASHES = 3
"""A target with so many is left alone: it would find the same again."""

_STAT = re.compile(rb"^stat::(\w+):\s+(\d+)", re.MULTILINE)
_COVERAGE = re.compile(rb"cov: (\d+) ft: \d+ corp: (\d+)")


@dataclass(kw_only=True)
class TargetResult:
    """What became of one target so far."""

    name: str
    inputs: int = 0
    coverage: int = 0
    """Branches of our code and kinds of outcome, in one process."""
    corpus: int = 0
    seconds: float = 0.0
    peak_memory_mb: int = 0
    memory_limit_mb: int
    crashes: list[str] = field(default_factory=list)
    """The inputs' files."""

    @property
    def inputs_per_s(self) -> float:
        return self.inputs / self.seconds if self.seconds else 0.0


class Campaign:
    """Fuzzes until so many inputs or so many seconds are spent, whatever comes first."""

    def __init__(
        self,
        targets: list[FuzzTarget],
        folder: Path,
        *,
        max_inputs: int,
        max_s: float,
        processes: int = os.cpu_count() or 1,
    ) -> None:
        """Args: ``folder`` keeps corpora, logs and crashes; a later campaign goes on from them."""
        self.results = {
            target.name: TargetResult(name=target.name, memory_limit_mb=target.memory_mb)
            for target in targets
        }
        self._targets = targets
        self._folder = folder
        self._max_inputs = max_inputs
        self._max_s = max_s
        self._processes = processes
        self._lock = threading.Lock()
        self._due = {target.name: 0.0 for target in targets}
        """The target with the lowest number is next; see ``_next``."""
        self._running: set[str] = set()
        self._beside_s: list[float] = []
        """What turns took beyond the time that they were given: a worker imports and instruments
        for seconds before its first input."""

    @property
    def inputs(self) -> int:
        """Inputs so far, over all targets."""
        return sum(result.inputs for result in self.results.values())

    def run(self, progress: Callable[[TargetResult], None]) -> None:
        """Fuzz; ``progress`` is called after every slice."""
        self._end_s = time.monotonic() + self._max_s
        with ThreadPoolExecutor(self._processes) as pool:
            for done in [pool.submit(self._work, progress) for _ in range(self._processes)]:
                done.result()

    def _work(self, progress: Callable[[TargetResult], None]) -> None:
        while (chosen := self._next()) is not None:
            target, seconds = chosen
            result = self.results[target.name]
            began_s = time.monotonic()
            self._fuzz(target, result, seconds)
            with self._lock:
                self._beside_s.append(max(0.0, time.monotonic() - began_s - seconds))
                self._running.remove(target.name)
                progress(result)

    def _next(self) -> tuple[FuzzTarget, int] | None:
        """Return the target that has had least of its share and its seconds, None at the end."""
        with self._lock:
            left_s = self._end_s - time.monotonic()
            if self.inputs >= self._max_inputs or left_s <= 1:
                return None
            free = [
                target
                for target in self._targets
                if target.name not in self._running
                and len(self.results[target.name].crashes) < MAX_CRASHES
            ]
            if not free:
                return None
            seconds = turn_s(
                left_s,
                waiting=sum(not due for due in self._due.values()),
                processes=self._processes,
                beside_s=median(self._beside_s or [0.0]),
            )
            chosen = min(free, key=lambda target: self._due[target.name])
            self._due[chosen.name] += 1 / chosen.share
            self._running.add(chosen.name)
            return chosen, seconds

    def _fuzz(self, target: FuzzTarget, result: TargetResult, seconds: int) -> None:
        seeds, corpus = self._seeds(target), self._made("corpus", target.name)
        crashes = self._made("crashes", target.name)
        before = _times_in(crashes)
        log = self._made("logs") / f"{target.name}.log"
        options = [
            f"-max_total_time={seconds}",
            f"-runs={max(1, self._max_inputs - self.inputs)}",
            f"-timeout={STUCK_S}",
            f"-report_slow_units={STUCK_S}",
            f"-artifact_prefix={crashes}/",
            # Decoders complain of what they are given; tracebacks come from running it again.
            *("-reduce_inputs=0", "-print_final_stats=1", "-close_fd_mask=3"),
        ]
        began_s = time.monotonic()
        # Folders of a target's own: libFuzzer ends a process without asking Python.
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch, log.open("wb") as output:
            command = [sys.executable, "-m", "tests.fuzz.worker", target.name, *options]
            code = subprocess.run(
                [*command, str(corpus), str(seeds)],
                cwd=ROOT,
                env=os.environ | {"TMPDIR": scratch},
                stdout=output,
                stderr=output,
                check=False,
            ).returncode
        result.seconds += time.monotonic() - began_s
        _add_log(result, log.read_bytes())
        # The same input may be found, and written, once more.
        found = sorted(str(path) for path, _ in _times_in(crashes) - before)
        if code != 0 and not found:
            found = [f"{log} (exit status {code}, no input kept)"]
        result.crashes += found

    def _seeds(self, target: FuzzTarget) -> Path:
        folder = self._made("seeds", target.name)
        for at, seed in enumerate([*target.seeds(), *regressions(target.name)]):
            (folder / str(at)).write_bytes(seed)
        return folder

    def _made(self, *parts: str) -> Path:
        folder = self._folder.joinpath(*parts).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def turn_s(left_s: float, *, waiting: int, processes: int, beside_s: float) -> int:
    """Return for how many seconds the next target is fuzzed, so that all have had a turn in time.

    Args:
        left_s: of the campaign.
        waiting: targets without a turn, the next one with them.
        processes: that fuzz at once.
        beside_s: what a turn takes longer than it is told to.
    """
    rounds = max(1, math.ceil(waiting / processes))
    return max(1, int(min(SLICE_S, left_s / rounds - beside_s)))


def _times_in(folder: Path) -> set[tuple[Path, int]]:
    return {(path, path.stat().st_mtime_ns) for path in folder.iterdir()}


def regressions(name: str) -> list[bytes]:
    """Return the inputs that once were crashes of a target."""
    return [path.read_bytes() for path in sorted((REGRESSIONS / name).glob("*"))]


def _add_log(result: TargetResult, log: bytes) -> None:
    """Read what libFuzzer says at its end."""
    stats = {name: int(value) for name, value in _STAT.findall(log)}
    result.inputs += stats.get(b"number_of_executed_units", 0)
    result.peak_memory_mb = max(result.peak_memory_mb, stats.get(b"peak_rss_mb", 0))
    if seen := _COVERAGE.findall(log):
        result.coverage, result.corpus = map(int, seen[-1])
