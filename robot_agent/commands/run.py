"""``robot-agent --config robot.toml``: grasp until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event
from typing import Annotated

import tyro

from protocol.configuration import load_toml
from protocol.errors import EndedEarlyError
from robot_agent.config import AgentConfig

logger = logging.getLogger(__name__)

_STOPPING = b"robot-agent: stops after the attempt under way; a second signal ends it at once\n"


def run(config: Annotated[Path, tyro.conf.arg(metavar="TOML")], dry_run: bool = False) -> int:
    """Grasp: look, predict, move, close, lift, label, and send.

    Runs until SIGTERM or Ctrl-C; it then finishes the attempt under way and delivers what is
    spooled; a second one ends it at once. Space in its terminal, SIGUSR1, a file STOP in its state
    folder, and 'fleet stop' stop the robot at once: docs/safety.md.

    Args:
        config: The robot's configuration file.
        dry_run: Open robot and camera, decide, and print what would be done. Nothing moves, nothing
            is recorded or sent.
    """
    settings = load_toml(config, AgentConfig)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    stopping = _stop_signal()
    if dry_run:
        _run_dry(settings, stopping)
    else:
        _run(settings, stopping)
    return 0


def _run(settings: AgentConfig, stopping: Event) -> None:
    # Loaded only here: the other commands need no network runtime.
    from robot_agent.agent import Agent
    from robot_agent.safety.emergency_stop import EmergencyStop
    from robot_agent.safety.stop_latch import StopLatch

    with EmergencyStop(settings.name, StopLatch(settings.state_folder)) as emergency:
        emergency.heed_signal()
        try:
            with Agent(settings, emergency, stopping) as agent:
                logger.info("%s: ready", settings.name)
                agent.run(stopping)
        except EndedEarlyError as end:
            logger.info("%s: %s", settings.name, end)
    logger.info("%s: has ended", settings.name)


def _run_dry(settings: AgentConfig, stopping: Event) -> None:
    from robot_agent.attempts.dry_run import dry_run

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    dry_run(settings, stopping, say)


def _stop_signal() -> Event:
    """Return what SIGTERM and Ctrl-C set; a second one ends the process at once."""
    stopping = Event()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop(*_: object) -> None:
        stopping.set()
        # Not to the log: what this interrupts may be writing to it.
        os.write(sys.stderr.fileno(), _STOPPING)
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, stop)
    return stopping
