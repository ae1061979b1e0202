"""Is each port that the configuration names there, open to this user, and free."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robot_agent.config import AgentConfig
from robot_agent.robots.check_result import CheckResult, fail, ok


def check_ports(config: AgentConfig, processes: Path = Path("/proc")) -> Iterator[CheckResult]:
    """Look at every option named ``port``, of the arm and of a gripper of its own.

    Args:
        config: of the robot.
        processes: where the kernel tells which process has which file open.
    """
    for port in _ports(config.robot.options):
        yield _port(port, processes)


def _ports(options: Mapping[str, Any]) -> Iterator[Path]:
    for name, value in options.items():
        if name == "port" and isinstance(value, str):
            yield Path(value)
        elif isinstance(value, Mapping):
            yield from _ports(value)


def _port(port: Path, processes: Path) -> CheckResult:
    subject = "port"
    try:
        found = port.stat()
    except OSError as error:
        return fail(
            subject,
            f"{port}: {error.strerror}",
            f"is the cable in, and the board powered? What is there: {_serial_devices()}",
        )
    if not stat.S_ISCHR(found.st_mode):
        return fail(subject, f"{port} is no serial port", "correct 'port' in [robot.options]")
    if not os.access(port, os.R_OK | os.W_OK):
        group = _group(found.st_gid)
        return fail(
            subject,
            f"{port}: {_user()} may not use it; it belongs to group {group}",
            f"sudo usermod -aG {group} {_user()}, then log in anew",
        )
    users = sorted(_users(port.resolve(), processes))
    if users:
        return fail(
            subject,
            f"{port} is in use by {', '.join(users)}",
            "stop it first; an agent under systemd: systemctl stop graspfleet-agent@NAME",
        )
    return ok(subject, f"{port}: there, readable, writable and free")


def _users(port: Path, processes: Path) -> Iterator[str]:
    """Yield the other processes that have the port open, as far as this user may look."""
    for process in processes.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            opened = {link.readlink() for link in (process / "fd").iterdir()}
        except OSError:
            continue  # another user's, or it has ended
        if port in opened:
            name = (process / "comm").read_text().strip()
            yield f"{name} (process {process.name})"


def _serial_devices() -> str:
    by_id = Path("/dev/serial/by-id")
    names = [str(link) for link in by_id.iterdir()] if by_id.is_dir() else []
    return ", ".join(sorted(names)) or "no USB serial port at all"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
