"""Starts an agent whose arm moves on a recorded line, and finds its guard."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.delivery_site import ROOT
from tests.robot_agent.safety.recorder import Recorder
from tests.robot_agent.safety.wire_robot import SET_POINT
from tests.waiting import wait_until


@contextmanager
def moving_arm(
    folder: Path, line: Recorder, stall_s: float = 30.0, **options: float
) -> Iterator[subprocess.Popen[bytes]]:
    """Start an agent in a process group of its own; yield it once its arm moves."""
    with agent_of(folder, stall_s, **options) as agent:
        wait_until(lambda: line.count(SET_POINT) >= 20, "the arm moves")
        yield agent


@contextmanager
def agent_of(
    folder: Path, stall_s: float = 30.0, **options: float | str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start an agent whose robot is on the line ``port`` of a folder; it is killed at the end."""
    command = [sys.executable, "-m", "tests.robot_agent.safety.wire_robot", str(folder)]
    arguments = [str(stall_s), *(f"{name}={value}" for name, value in options.items())]
    with subprocess.Popen([*command, *arguments], cwd=ROOT, start_new_session=True) as agent:
        try:
            yield agent
        finally:
            guards = guards_of(agent)
            agent.kill()
            # While the line is there: without it a guard would try for a minute.
            for guard in guards:
                wait_until(lambda pid=guard: is_gone(pid), "the guard ends")


def guard_of(agent: subprocess.Popen[bytes]) -> int:
    [guard] = guards_of(agent)
    return guard


def guards_of(agent: subprocess.Popen[bytes]) -> list[int]:
    """Return the guards of an agent; none of one that has ended."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        for child in children:
            if b"robot_agent.safety.guard" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def is_gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
