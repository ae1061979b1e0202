"""``python -m learner --config learner.toml``: what ``ray submit`` and ``ray job submit`` run."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from ray.exceptions import RayError

from learner.cluster import ray_of
from learner.config import LearnerConfig
from learner.learner import Learner
from learner.logs import configure_logs
from learner.readiness import await_cluster
from protocol.configuration import load_toml
from protocol.errors import ConfigurationError, GraspFleetError

logger = logging.getLogger("learner")

STATUS_INTERVAL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The central learner: receives grasp attempts, trains on them, releases new weights.

    Runs until SIGTERM or Ctrl-C, then writes a checkpoint; started again, it resumes from it.
    """

    config: Annotated[Path, tyro.conf.arg(metavar="TOML")]
    """The learner's configuration file."""


def main() -> None:
    """Run the learner; exit status 2 for a wrong configuration, 1 for any other failure."""
    arguments = tyro.cli(Arguments, prog="python -m learner")
    try:
        run(load_toml(arguments.config, LearnerConfig))
    except ConfigurationError as error:
        sys.exit(_said(error, 2))
    except (GraspFleetError, RayError) as error:
        sys.exit(_said(error, 1))


def run(config: LearnerConfig) -> None:
    """Serve until a signal says stop."""
    configure_logs(config.log_level)
    stopping = threading.Event()
    with ray_of(config):
        # Only now: starting Ray replaces the handler of SIGTERM with its own.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        if await_cluster(config, stopping):
            serve(config, stopping)


def serve(config: LearnerConfig, stopping: threading.Event) -> None:
    """Serve until ``stopping`` is set; a line of status every half a minute."""
    with Learner(config) as learner:
        began = time.monotonic()
        while not stopping.wait(STATUS_INTERVAL_S):
            learner.check()
            status = learner.status()
            if status is None:
                logger.warning(
                    "the gateway does not answer; Ray starts it anew once its node is up"
                )
                continue
            logger.info(
                "%.0f s: %d robots, %d episodes stored, release %d",
                time.monotonic() - began,
                len(status.robots),
                status.episodes_stored,
                status.release_version,
            )


def _said(error: Exception, status: int) -> int:
    sys.stderr.write(f"learner: {error}\n")
    return status


if __name__ == "__main__":
    main()
