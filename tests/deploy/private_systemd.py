"""A systemd of a test's own: a user's manager in namespaces, that ends with the test.

It starts units as the system's would, sandbox included, but as the user that runs the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import wait_until

MANAGER = Path("/usr/lib/systemd/systemd")
# Process 1 of the namespace is the shell: systemd would take itself for the system's own.
_START = """
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -e $hierarchy/cgroup.procs ] || continue
    mkdir -p $hierarchy/$CGROUP && echo 0 >$hierarchy/$CGROUP/cgroup.procs
done
# Credentials are mounted by a process that has a namespace of its own again.
mount --make-rshared /
mount -t tmpfs none /run && mkdir -p /run/systemd/system
ln -s $XDG_RUNTIME_DIR/systemd/inaccessible /run/systemd/inaccessible
"$MANAGER" --user --unit=test.target
"""


@dataclass(frozen=True, kw_only=True)
class PrivateSystemd:
    """The manager, as systemctl speaks to it."""

    folder: Path
    unshared: subprocess.Popen[bytes]
    """What made the namespaces; its child is their process 1."""

    @property
    def units(self) -> Path:
        return self.folder / "units"

    def control(self, *arguments: str) -> str:
        # From outside the manager would not know who speaks to it.
        first = Path(f"/proc/{self.unshared.pid}/task/{self.unshared.pid}/children").read_text()
        within = ["nsenter", "--target", first.strip(), "--pid", "--mount"]
        done = subprocess.run(
            [*within, "systemctl", "--user", "--no-pager", *arguments],
            env=environment(self.folder),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() or done.stderr.strip()

    def show(self, unit: str, fact: str) -> str:
        return self.control("show", "--value", f"--property={fact}", unit)


@contextmanager
def private_systemd(folder: Path) -> Iterator[PrivateSystemd]:
    """Start a manager; skip where it cannot be had."""
    if os.geteuid() != 0 or not MANAGER.exists() or shutil.which("unshare") is None:
        pytest.skip("needs root, systemd and unshare")
    (folder / "units").mkdir(parents=True)
    for name in ("basic", "shutdown", "test"):
        (folder / f"units/{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    isolated = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*isolated, "sh", "-c", _START], env=environment(folder), stdout=log, stderr=log
        )
    manager = PrivateSystemd(folder=folder, unshared=process)
    try:
        wait_until(lambda: manager.control("is-active", "test.target") == "active", "systemd is up")
        yield manager
    finally:
        process.kill()
        process.wait()
        _remove_control_groups(environment(folder)["CGROUP"])


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "XDG_RUNTIME_DIR": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "SYSTEMD_UNIT_PATH": str(folder / "units"),
        "MANAGER": str(MANAGER),
        "CGROUP": f"graspfleet-test-{os.getpid()}",
    }


def _remove_control_groups(name: str) -> None:
    for hierarchy in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"):
        top = Path(hierarchy, name)
        if top.is_dir():
            groups = [top, *(path for path in top.rglob("*") if path.is_dir())]
            for group in sorted(groups, reverse=True):
                wait_until(lambda group=group: _is_removed(group), f"{group} is empty")


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
