"""Is there room for the outbox, does the disk sync in time, and how worn is it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from protocol.errors import ConfigurationError
from robot_agent.config import AgentConfig
from robot_agent.delivery.outbox import outbox_counts
from robot_agent.robots.check_result import CheckResult, fail, ok, warn

SYNCS = 10
RECORD_BYTES = 64 * 1024
"""About what an attempt takes."""
SLOW_SYNC_S = 0.2
"""An attempt takes seconds, and waits for one sync; a card this slow is worn or no good one."""
_SPARE_BYTES = 200_000_000
"""Beside the outbox: logs, releases, updates."""
_ANOTHER_CARD = "take another card (class A2, 'endurance') or a USB disk for state_folder"


def check_disk(config: AgentConfig, system: Path = Path("/sys")) -> Iterator[CheckResult]:
    """Look at the disk of the state folder; ``system`` is where the kernel tells of it."""
    folder = _existing(config.state_folder)
    yield _room(config, folder)
    yield _syncing(folder)
    yield from _wear(folder, system)


def _room(config: AgentConfig, folder: Path) -> CheckResult:
    subject = "disk space"
    free_bytes = shutil.disk_usage(folder).free
    needed_bytes = max(0, config.outbox.max_bytes - _waiting_bytes(config.state_folder))
    found = f"{_gb(free_bytes)} free at {folder}"
    if free_bytes < needed_bytes:
        return fail(
            subject,
            f"{found}, but outbox.max_bytes lets the outbox take {_gb(needed_bytes)} more",
            "make room, or lower outbox.max_bytes in robot.toml",
        )
    if free_bytes < needed_bytes + _SPARE_BYTES:
        return warn(
            subject,
            f"{found}; a full outbox leaves {_gb(free_bytes - needed_bytes)}",
            "make room, or lower outbox.max_bytes in robot.toml",
        )
    return ok(subject, f"{found}, room for an outbox of {_gb(config.outbox.max_bytes)}")


def _syncing(folder: Path) -> CheckResult:
    subject = "disk sync"
    try:
        taken_s = _sync_times_s(folder)
    except OSError as error:
        return fail(subject, f"{folder} cannot be written: {error.strerror}", _remedy(error))
    median_s, longest_s = statistics.median(taken_s), max(taken_s)
    found = f"{median_s * 1e3:.1f} ms for {RECORD_BYTES // 1024} KiB, at most {longest_s * 1e3:.0f}"
    if median_s > SLOW_SYNC_S:
        return warn(subject, f"{found}; above {SLOW_SYNC_S * 1e3:.0f} ms", _ANOTHER_CARD)
    return ok(subject, found)


def _remedy(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "make room"
    return (
        "give the folder to the user that the agent runs as; a card that the system has made "
        "read-only is at its end: take another one"
    )


def _sync_times_s(folder: Path) -> list[float]:
    """Write and sync a few records as the outbox would; the file is gone afterwards."""
    path = folder / f".check-{secrets.token_hex(4)}"
    taken_s = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for _ in range(SYNCS):
            data = os.urandom(RECORD_BYTES)
            began_s = time.monotonic()
            os.write(descriptor, data)
            os.fdatasync(descriptor)
            taken_s.append(time.monotonic() - began_s)
    finally:
        os.close(descriptor)
        path.unlink()
    return taken_s


def _wear(folder: Path, system: Path) -> Iterator[CheckResult]:
    """Say what the kernel knows of the disk's age; an SD card tells little, an eMMC more."""
    device = folder.stat().st_dev
    block = (system / f"dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    file_system = system / "fs/ext4" / block.name
    errors = _number(file_system / "errors_count")
    if errors:
        yield fail(
            "disk wear",
            f"the file system on {block.name} has {errors} errors",
            f"copy what is needed, and take another card; fsck /dev/{block.name} says more",
        )
        return
    # Of a partition, the disk is one folder up.
    life = _text(block / "device/life_time") or _text(block.parent / "device/life_time")
    used_tenths = max((int(word, 16) for word in life.split()), default=0)
    if used_tenths >= 9:
        yield warn(
            "disk wear",
            f"{block.name} says that {10 * used_tenths} % of its life is used",
            _ANOTHER_CARD,
        )
        return
    written_kib = _number(file_system / "lifetime_write_kbytes")
    if written_kib is not None:
        yield ok("disk wear", f"no errors; {_gb(written_kib * 1024)} written in its life")


def _waiting_bytes(state_folder: Path) -> int:
    try:
        return outbox_counts(state_folder).waiting_bytes
    except ConfigurationError:
        return 0


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.resolve().parents) if one.is_dir())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _gb(count_bytes: int) -> str:
    return f"{count_bytes / 1e9:.1f} GB"
