"""What the outbox writes to the robot's disk per byte of episode, and what a put costs.

    python -m tests.benchmarks.bench_outbox [--seconds 60] [--out FILE]

Two ways of use, each with the outbox closed at the end so that nothing is left to be written:
every episode acked before the next one comes, as with a learner that answers; and 500 episodes
without a learner, then acks for eight at a time. Beside them, in the same round, the least that
durability can cost: the same records appended to one file, with an fdatasync after each.

Two instruments. ``process`` is ``write_bytes`` of /proc/self/io: pages of files that this process
made dirty, counted again when they are written again after a sync. ``disk`` is what the block layer
counted on a file system of its own, made for this benchmark (ext4 in a loop device; needs root):
with the file system's journal and inodes. Records follow each other without pause; at the pace of
a robot ext4 adds a commit of its journal every five seconds in which anything was written, 12 KB
whoever writes, which is reported apart from a minute's sample at one episode a second.

The log of records takes a new segment whenever the ones that it has are in use, so a spell costs
the file system a commit of its journal for every record: ``disk`` counts it, ``process`` does not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.codec import encode_episode
from robot_agent.config import OutboxConfig
from robot_agent.delivery.outbox import Outbox
from tests.benchmarks.figures import Figure, Findings, add_out_option, figure_of, report
from tests.episodes import make_episode

PICTURES = 10
ACKED_AT_ONCE = 8
"""Of what piled up: the learner acks what it stored in one commit together."""
RECORDS = 1_000
SPELL = 500
PACED = 20
BOUND = "<= 2.3"
_SECTOR_BYTES = 512
_DISK_BYTES = 2**30
Workload = Callable[[Path, list[bytes]], list[float]]
"""Stores the records in a folder; returns how long each took to be on disk, in ms."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Where it is measured."""

    folder: Path
    device: str
    """Name of a block device that nobody else writes to; "" when there is none."""

    def written_bytes(self) -> tuple[int, int]:
        """Return what this process and the device have written so far, all of it out."""
        subprocess.run(["sync", "-f", self.folder], check=True)
        fields = (line.split() for line in Path("/proc/self/io").read_text().splitlines())
        process = next(int(value) for name, value in fields if name == "write_bytes:")
        if not self.device:
            return process, 0
        statistics = Path(f"/sys/block/{self.device}/stat").read_text().split()
        return process, int(statistics[6]) * _SECTOR_BYTES


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one workload, once."""

    process: float
    disk: float
    """Bytes written per byte of record."""
    put_ms: float
    """Mean."""


@contextmanager
def a_disk(scratch: Path) -> Iterator[Disk]:
    """Yield a file system of our own, or a folder of the one that is there."""
    folder = scratch / "disk"
    folder.mkdir()
    device = _loop_device(scratch / "image") if os.geteuid() == 0 else ""
    if not device:
        yield Disk(folder=folder, device="")
        return
    try:
        subprocess.run(["mount", device, folder], check=True)
        try:
            yield Disk(folder=folder, device=Path(device).name)
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def _loop_device(image: Path) -> str:
    with image.open("wb") as file:
        file.truncate(_DISK_BYTES)
    at_once = "lazy_itable_init=0,lazy_journal_init=0"
    made = subprocess.run(["mkfs.ext4", "-q", "-E", at_once, image], check=False)
    if made.returncode != 0:
        return ""
    found = subprocess.run(
        ["losetup", "--find", "--show", image], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() if found.returncode == 0 else ""


def acked_at_once(folder: Path, records: list[bytes]) -> list[float]:
    """Have every record acked before the next one comes."""
    outbox = Outbox(folder, OutboxConfig())
    took_ms = []
    for record in records:
        begin_s = time.perf_counter()
        sequence = outbox.put(record)
        took_ms.append((time.perf_counter() - begin_s) * 1e3)
        outbox.forget([sequence])
    outbox.close()
    return took_ms


def offline_spell(folder: Path, records: list[bytes]) -> list[float]:
    """Let all records pile up, then have them acked."""
    outbox = Outbox(folder, OutboxConfig())
    took_ms = []
    for record in records[:SPELL]:
        begin_s = time.perf_counter()
        outbox.put(record)
        took_ms.append((time.perf_counter() - begin_s) * 1e3)
    for first in range(1, SPELL + 1, ACKED_AT_ONCE):
        outbox.forget(range(first, min(first + ACKED_AT_ONCE, SPELL + 1)))
    outbox.close()
    return took_ms


def appended(folder: Path, records: list[bytes]) -> list[float]:
    """Append every record to a file and sync its content."""
    folder.mkdir()
    took_ms = []
    with (folder / "log").open("ab", buffering=0) as file:
        for record in records:
            begin_s = time.perf_counter()
            file.write(record)
            os.fdatasync(file)
            took_ms.append((time.perf_counter() - begin_s) * 1e3)
    return took_ms


def one_a_second(folder: Path, records: list[bytes]) -> list[float]:
    """As ``acked_at_once``, at the pace of a fast robot."""
    outbox = Outbox(folder, OutboxConfig())
    for record in records[:PACED]:
        sequence = outbox.put(record)
        time.sleep(0.5)
        outbox.forget([sequence])
        time.sleep(0.5)
    outbox.close()
    return [0.0]


def cost_of(workload: Workload, disk: Disk, records: list[bytes]) -> Cost:
    """Run a workload in a folder of its own and remove that."""
    folder = Path(tempfile.mkdtemp(dir=disk.folder))
    process_before, disk_before = disk.written_bytes()
    took_ms = workload(folder / "state", records)
    process_after, disk_after = disk.written_bytes()
    shutil.rmtree(folder)
    count = {offline_spell: SPELL, one_a_second: PACED}.get(workload, len(records))
    total_bytes = sum(map(len, records[:count]))
    return Cost(
        process=(process_after - process_before) / total_bytes,
        disk=(disk_after - disk_before) / total_bytes,
        put_ms=sum(took_ms) / len(took_ms),
    )


def together(costs: dict[Workload, Cost], kind: str) -> float:
    """Return bytes per byte over RECORDS acked one by one and SPELL that piled up."""
    shares = {acked_at_once: RECORDS, offline_spell: SPELL}
    written = sum(getattr(costs[way], kind) * count for way, count in shares.items())
    return float(written / sum(shares.values()))


def make_records(count: int) -> list[bytes]:
    """Return different episodes of PICTURES pictures."""
    return [encode_episode(make_episode("arm", seed, PICTURES - 2)) for seed in range(count)]


def figures(
    rounds: list[dict[Workload, Cost]], paced: Cost, *, is_disk_known: bool
) -> list[Figure]:
    """Return what is reported."""
    kinds = ("process", "disk") if is_disk_known else ("process",)
    ways = {"acked before the next": acked_at_once, "offline spell of 500": offline_spell}
    return [
        *(
            figure_of(
                f"bytes per byte, both together: {kind}",
                [together(one, kind) for one in rounds],
                "x",
                bound=BOUND,
            )
            for kind in kinds
        ),
        *(
            figure_of(
                f"bytes per byte, {name}: {kind}",
                [getattr(one[way], kind) for one in rounds],
                "x",
                bound=BOUND,
            )
            for name, way in ways.items()
            for kind in kinds
        ),
        figure_of("bytes per byte, bare append", [one[appended].process for one in rounds], "x"),
        figure_of("put", [one[acked_at_once].put_ms for one in rounds], "ms"),
        figure_of(
            "put against append + fdatasync",
            [one[acked_at_once].put_ms / one[appended].put_ms for one in rounds],
            "x",
        ),
        Figure(
            name="bytes per byte at one episode a second",
            value=paced.disk if is_disk_known else paced.process,
            unit="x",
            note=f"the first {PACED} after a start; with the file system's journal",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench_outbox", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="budget (60)")
    add_out_option(parser)
    arguments = parser.parse_args()
    records = make_records(RECORDS)
    end_s = time.monotonic() + arguments.seconds - PACED
    rounds: list[dict[Workload, Cost]] = []
    with tempfile.TemporaryDirectory() as scratch, a_disk(Path(scratch)) as disk:
        while len(rounds) < 3 or time.monotonic() < end_s:
            workloads: list[Workload] = [acked_at_once, offline_spell, appended]
            rounds.append({one: cost_of(one, disk, records) for one in workloads})
        paced = cost_of(one_a_second, disk, records)
    found = Findings(
        title="The outbox's writes",
        settings={
            "record_bytes": sum(map(len, records)) // len(records),
            "rounds": len(rounds),
            "file_system": "ext4 of its own" if disk.device else "as it is",
        },
        figures=figures(rounds, paced, is_disk_known=bool(disk.device)),
    )
    report(found, arguments.out)


if __name__ == "__main__":
    main()
