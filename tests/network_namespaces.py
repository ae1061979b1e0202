"""Two machines on one: network namespaces with a cable (a veth pair) between them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

NETWORK = "10.231.17"


@dataclass(frozen=True)
class Machine:
    """One namespace; its end of the cable is called ``cable``."""

    name: str
    number: int
    """Of its first address."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command line begins with to run here."""
        return ("ip", "netns", "exec", self.name)

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    def plug_in(self, address: str | None = None) -> None:
        """Give the cable its address and switch it on."""
        self.ip("address", "add", f"{address or self.address}/24", "dev", "cable")
        self.ip("link", "set", "cable", "up")

    def switch(self, state: str) -> None:
        """Take the cable ``up`` or ``down``."""
        self.ip("link", "set", "cable", state)

    def move_to(self, address: str) -> None:
        """Have another address instead, as after a new lease."""
        self.ip("address", "flush", "dev", "cable")
        self.ip("address", "add", f"{address}/24", "dev", "cable")

    def name_host(self, host: str, address: str) -> None:
        """Resolve a host name to an address here, from now on."""
        # Written in place: a process that is inside has this very file mounted.
        (_settings(self.name) / "hosts").write_text(f"127.0.0.1 localhost\n{address} {host}\n")

    def ip(self, *arguments: str) -> None:
        _ip("-n", self.name, *arguments)


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Yield a robot's and a learner's machine, connected; skip where that cannot be made."""
    machines = Machine(f"robot-{os.getpid()}", 1), Machine(f"learner-{os.getpid()}", 2)
    try:
        for machine in machines:
            _make(machine)
        connect(*machines)
        for machine in machines:
            machine.plug_in()
        yield machines
    finally:
        for machine in machines:
            subprocess.run(["ip", "netns", "delete", machine.name], check=False)
            shutil.rmtree(_settings(machine.name), ignore_errors=True)


def connect(one: Machine, other: Machine) -> None:
    """Lay a new cable; its ends have new hardware addresses."""
    _ip(
        *("link", "add", "cable", "netns", one.name, "type", "veth"),
        *("peer", "name", "cable", "netns", other.name),
    )


def _make(machine: Machine) -> None:
    if shutil.which("ip") is None:
        pytest.skip("no network namespaces: the command ip (iproute2) is not installed")
    made = subprocess.run(
        ["ip", "netns", "add", machine.name], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no network namespaces: {made.stderr.strip() or 'ip netns add failed'}")
    _settings(machine.name).mkdir(parents=True, exist_ok=True)
    machine.name_host("learner", machine.address)
    machine.ip("link", "set", "lo", "up")


def _settings(name: str) -> Path:
    """Return the folder whose files ``ip netns exec`` mounts over those in /etc."""
    return Path("/etc/netns") / name


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
