"""Disks that are really full, or really do not answer."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """Mount a file system of this size; ``ballast`` in it takes up half a megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (folder / "ballast").write_bytes(bytes(2**19))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_disk(path: Path, *, but_bytes: int = 0) -> None:
    """Write a file that leaves no more than so many bytes of its disk."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while (left := shutil.disk_usage(path.parent).free - but_bytes) > 0:
            file.write(bytes(min(left, 2**16)))


@contextmanager
def ext4_disk(image: Path, folder: Path) -> Iterator[Path]:
    """Mount a file system of its own, which ``frozen`` can bring to a halt."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop", image, folder]):
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fail_disk(disk: Path) -> None:
    """Let a file system of ``ext4_disk`` take nothing any more, as after an error of its card."""
    subprocess.run(["mount", "-o", "remount,abort", str(disk)], capture_output=True, check=False)


@contextmanager
def frozen(disk: Path) -> Iterator[None]:
    """Let nobody write to it meanwhile: whoever tries waits until the end."""
    subprocess.run(["fsfreeze", "--freeze", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(disk)], check=True)
