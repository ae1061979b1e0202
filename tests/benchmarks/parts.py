"""The parts of the suite, each a program of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.benchmarks.figures import Findings

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
GRACE_S = 120.0
"""What a part may take beyond its share, to start and to end."""
_SHARES = {
    "ingestion": 16.0,
    "fleet": 4.0,
    "ack": 2.0,
    "release": 2.0,
    "restart": 1.5,
    "training": 1.5,
}
"""Minutes of half an hour that a part is given; one that is not named gets one."""
_SHOWN_LINES = 15


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one part."""

    part: str
    wall_s: float
    findings: Findings | None
    error: str
    """Why it failed; "" when it did not."""


def part_names() -> list[str]:
    """Return every part there is, the longest first."""
    names = [path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py")]
    return sorted(names, key=lambda name: (-_share(name), name))


def seconds_of(names: Sequence[str], minutes: float) -> dict[str, float]:
    """Share ``minutes`` out between parts."""
    whole = sum(_share(name) for name in names)
    return {name: 60 * minutes * _share(name) / whole for name in names}


def run_part(name: str, seconds: float, out: Path, options: Sequence[str] = ()) -> Outcome:
    """Run one part, its output shown and kept; end it when it takes far too long."""
    findings_file, log_file = out / f"{name}.json", out / f"{name}.log"
    findings_file.unlink(missing_ok=True)
    command = [sys.executable, "-u", "-m", f"tests.benchmarks.bench_{name}"]
    command += ["--seconds", f"{seconds:g}", "--out", str(findings_file.resolve()), *options]
    began_s = time.monotonic()
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = _follow(process, log_file, began_s + seconds + GRACE_S)
        finally:
            _end(process)
    error = _error(status, log_file, seconds)
    return Outcome(
        part=name,
        wall_s=time.monotonic() - began_s,
        findings=_read(findings_file),
        error=error or ("" if findings_file.exists() else "it wrote no findings"),
    )


def _share(name: str) -> float:
    return _SHARES.get(name, 1.0)


def _follow(process: subprocess.Popen[bytes], log_file: Path, deadline_s: float) -> int | None:
    """Show what is written until the process ends; return its status, None after the deadline."""
    with log_file.open("rb") as log:
        while True:
            status = process.poll()
            sys.stdout.write(log.read().decode(errors="replace"))
            sys.stdout.flush()
            if status is not None or time.monotonic() > deadline_s:
                return status
            time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _error(status: int | None, log_file: Path, seconds: float) -> str:
    if status == 0:
        return ""
    ended = (
        f"ended with status {status}"
        if status is not None
        else f"was ended: it took {GRACE_S:.0f} s more than its {seconds:.0f} s"
    )
    lines = log_file.read_text(errors="replace").strip().splitlines()[-_SHOWN_LINES:]
    return "\n".join([f"{ended}; it last wrote", *(f"  {line}" for line in lines)])


def _read(findings_file: Path) -> Findings | None:
    if not findings_file.exists():
        return None
    return msgspec.json.decode(findings_file.read_bytes(), type=Findings)
