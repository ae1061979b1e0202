"""One process of emulated robots, as seen by who started it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet.child_process import SINGLE_THREADED
from tests.chaos.service import Service

# Dozens of robots that load one release after another would else scatter glibc's heap: it stops
# mapping large blocks apart once it has seen some freed.
_ENVIRONMENT = {**SINGLE_THREADED, "MALLOC_MMAP_THRESHOLD_": "65536"}


class EmulatedGroup:
    """The process, its journal, and the figures that it writes twice a second."""

    def __init__(
        self,
        name: str,
        robots: Sequence[str],
        *,
        bundles: Path,
        folder: Path,
        interval_s: float,
        options: Sequence[str] = (),
    ) -> None:
        """Prepare; nothing starts yet.

        Args:
            name: of the group.
            robots: names of the robots in it.
            bundles: folder with one bundle per robot.
            folder: where the journal, the figures and the log go.
            interval_s: between two episodes of one robot.
            options: further arguments of the program.
        """
        self.robots = tuple(robots)
        self.journal = folder / f"{name}.journal"
        arguments = ["-m", "tests.chaos.emulated_fleet", str(bundles), "--names", *robots]
        arguments += ["--journal", str(self.journal), "--interval-s", str(interval_s), *options]
        self.service = Service(
            name, arguments, log=folder / f"{name}.log", environment=_ENVIRONMENT
        )
        self._figures = self.journal.with_suffix(".figures.jsonl")
        self._read_bytes = 0
        self._latest: dict[str, Any] = {}
        self._acked: dict[int, int] = {}
        """Process id -> episodes acked while that process lived."""
        self._latencies_ms: list[float] = []

    def look(self) -> None:
        """Read the figures that are new."""
        if not self._figures.exists():
            return
        with self._figures.open("rb") as file:
            file.seek(self._read_bytes)
            # A process that was killed may have left half a line; it ends where the next begins.
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            figures = json.loads(line)
        except ValueError:
            return  # what a killed process left
        self._latest = figures
        self._acked[figures["process_id"]] = figures["acked"]
        self._latencies_ms += figures["latencies_ms"]

    @property
    def spooled(self) -> int:
        """Episodes spooled by the process that runs now."""
        return self._latest.get("spooled", 0) if self._is_current else 0

    @property
    def acked(self) -> int:
        """Episodes acked over all of the group's processes, as far as they came to write it."""
        return sum(self._acked.values())

    @property
    def is_welcome(self) -> bool:
        """Say whether the process runs and the learner takes episodes of every robot in it."""
        return self._is_current and self._latest["welcome"] == len(self.robots)

    @property
    def reached(self) -> int:
        """Robots of which an episode was acked since the last burst began."""
        return self._latest.get("reached", 0) if self._is_current else 0

    @property
    def bursts(self) -> int:
        """Bursts that are spooled in full, by the process that runs now."""
        return self._latest.get("bursts", 0) if self._is_current else 0

    def tell(self, number: signal.Signals) -> None:
        """Send a signal: SIGUSR1 for a burst, SIGUSR2 to deliver it."""
        os.kill(self.service.process_id, number)

    @property
    def trouble(self) -> str:
        return self._latest.get("trouble", "") if self._is_current else ""

    def take_latencies_ms(self) -> list[float]:
        """Return the times from spooling to ack of what was acked since the last call."""
        taken, self._latencies_ms = self._latencies_ms, []
        return taken

    @property
    def _is_current(self) -> bool:
        is_its_own = self._latest.get("process_id") == self.service.process_id
        return is_its_own and self.service.running
