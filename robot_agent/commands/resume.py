"""``robot-agent resume``: a person lets a stopped robot start again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from protocol.configuration import load_toml


def resume(config: Annotated[Path, tyro.conf.arg(metavar="TOML")], yes: bool = False) -> int:
    """Let a robot start again after an emergency stop or a safety fault.

    Says who stopped it, when and why, and asks whether it may go on. Nothing moves: the agent must
    be started afterwards. Look at the robot first. Exit status: 0 it may start, 1 it may not, 3
    somebody else stopped it meanwhile.

    Args:
        config: The robot's configuration file.
        yes: Do not ask.
    """
    from robot_agent.config import AgentConfig
    from robot_agent.safety.stop_latch import StopLatch

    settings = load_toml(config, AgentConfig)
    latch = StopLatch(settings.state_folder)
    stops = latch.stops()
    if not stops:
        sys.stdout.write(f"{settings.name} is not stopped\n")
        return 0
    # The file STOP and the latch that it led to are one stop.
    for stop in dict.fromkeys(stops):
        sys.stdout.write(f"{settings.name} was stopped {stop}\n")
    if not yes and not _is_agreed():
        sys.stdout.write(f"{settings.name} stays stopped\n")
        return 1
    latch.release(stops)
    sys.stdout.write(f"{settings.name} may start again\n")
    return 0


def _is_agreed() -> bool:
    sys.stdout.write("Is the arm free, and nobody within its reach? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
