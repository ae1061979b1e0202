"""One look at the processes of a fleet, from outside."""

from __future__ import annotations

import psutil

from tests.chaos.fleet_under_fire import FleetUnderFire
from tests.chaos.learner_processes import GATEWAY, RELEASES, TRAINER

PROCESSES = ("gateway", "releases", "trainer", "agents")
FIGURES = ("resident_mb", "own_mb", "descriptors", "threads")
Row = dict[str, float]


def take_sample(fleet: FleetUnderFire, at_s: float, latencies_ms: list[float]) -> Row | None:
    """Return the figures of now; None while a process is not there.

    ``own_mb`` is resident memory without what files are mapped into it: the store's pages, which
    the kernel takes back when it needs them, are not the gateway's own.
    """
    (group,) = fleet.groups
    found = {
        "gateway": fleet.part(GATEWAY),
        "releases": fleet.part(RELEASES),
        "trainer": fleet.part(TRAINER),
        "agents": psutil.Process(group.service.process_id) if group.service.running else None,
    }
    row: Row = {"at_s": round(at_s, 1)}
    for name, process in found.items():
        if process is None:
            return None
        row |= {f"{name}_{figure}": value for figure, value in _figures(process).items()}
    row |= _latencies(latencies_ms)
    row["acked"] = fleet.acked
    row["store_bytes"] = (fleet.folder.store / "data.mdb").stat().st_size
    return row


def _figures(process: psutil.Process) -> Row:
    with process.oneshot():
        memory = process.memory_info()
        return {
            "resident_mb": round(memory.rss / 2**20, 3),
            "own_mb": round((memory.rss - memory.shared) / 2**20, 3),
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
        }


def _latencies(latencies_ms: list[float]) -> Row:
    ordered = sorted(latencies_ms)
    if not ordered:
        return {"ack_p50_ms": float("nan"), "ack_p99_ms": float("nan")}
    return {
        "ack_p50_ms": ordered[len(ordered) // 2],
        "ack_p99_ms": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
    }
