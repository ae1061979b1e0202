"""``robot-agent --config robot.toml``: one robot."""

from __future__ import annotations

import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated

import tyro

from protocol.configuration import load_toml
from protocol.errors import ConfigurationError, GraspFleetError, SafetyFault
from robot_agent.agent import Agent
from robot_agent.config import AgentConfig

logger = logging.getLogger("robot_agent")

CONFIGURATION_STATUS, FAILURE_STATUS, SAFETY_STATUS = 2, 1, 3


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The agent of one gripper robot: looks, predicts, moves, grasps, labels, and sends.

    Runs until SIGTERM or Ctrl-C; it then finishes the attempt under way and delivers what is
    spooled; a second one ends it at once. Exit status: 0 stopped as asked, 1 failure, 2 wrong
    configuration, 3 safety fault (only a person may start it again).
    """

    config: Annotated[Path, tyro.conf.arg(metavar="TOML")]
    """The robot's configuration file."""


def main() -> None:
    """Run one agent."""
    arguments = tyro.cli(Arguments, prog="robot-agent")
    try:
        run(load_toml(arguments.config, AgentConfig))
    except ConfigurationError as error:
        sys.exit(_said(error, CONFIGURATION_STATUS))
    except SafetyFault as error:
        sys.exit(_said(error, SAFETY_STATUS))
    except GraspFleetError as error:
        sys.exit(_said(error, FAILURE_STATUS))


def run(config: AgentConfig) -> None:
    """Grasp until a signal says stop, then deliver and leave."""
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    stopping = _stop_signal()
    with Agent(config) as agent:
        logger.info("%s: ready", config.name)
        agent.run(stopping)


def _stop_signal() -> Event:
    """Return what SIGTERM and Ctrl-C set; a second one ends the process at once."""
    stopping = Event()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop(*_: object) -> None:
        stopping.set()
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, stop)
    return stopping


def _said(error: GraspFleetError, status: int) -> int:
    sys.stderr.write(f"robot-agent: {error}\n")
    return status


if __name__ == "__main__":
    main()
