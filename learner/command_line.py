"""The learner's command line: serve a fleet, or train on recorded stores alone."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from ray.exceptions import RayError

from learner.cluster import Head, ray_of
from learner.config import LearnerConfig
from learner.learner import Learner
from learner.logs import configure_logs
from learner.own_parts import check_own_parts
from learner.readiness import await_cluster
from protocol.configuration import load_toml, refuse_repeated_options
from protocol.errors import ConfigurationError, GraspFleetError

logger = logging.getLogger("learner")

STATUS_INTERVAL_S = 30.0
MOST_VISITS = 1_000_000
LOOK_INTERVAL_S = 2.0
"""Between looks at whether the Ray that all runs on is there."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The central learner: receives grasp attempts, trains on them, releases new weights.

    Runs until SIGTERM or Ctrl-C, then writes a checkpoint; started again, it resumes from it.

    With --offline it trains on recorded stores instead, without a robot, and ends.
    """

    config: Annotated[Path | None, tyro.conf.arg(metavar="TOML")] = None
    """The learner's configuration file; --offline does without, and then signs no release."""
    offline: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="STORE...")] = ()
    """Folders of episode stores to train on. Robots are told apart by their calibration."""
    visits: Annotated[float, tyro.conf.arg(metavar="V")] = 10.0
    """With --offline: how many times each example is used, on average; above 22 it overfits."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """With --offline: folder for release, checkpoints, metrics and the record of the run. A run
    that was interrupted goes on from there."""


def main() -> None:
    """Run the learner; exit status 2 for a wrong configuration, 1 for any other failure."""
    try:
        refuse_repeated_options(sys.argv[1:])
        run_as_told(tyro.cli(Arguments, prog="python -m learner"))
    except ConfigurationError as error:
        sys.exit(_said(error, 2))
    except (GraspFleetError, RayError) as error:
        sys.exit(_said(error, 1))


def run_as_told(arguments: Arguments) -> None:
    """Serve a fleet, or train on recorded stores."""
    if arguments.offline:
        run_offline(arguments)
    elif arguments.out is not None or arguments.visits != Arguments.visits:
        raise ConfigurationError("--visits and --out belong to --offline STORE, which is not given")
    elif arguments.config is None:
        raise ConfigurationError("--config TOML is needed, or --offline STORE")
    else:
        run(load_toml(arguments.config, LearnerConfig))


def run(config: LearnerConfig) -> None:
    """Serve until a signal says stop."""
    configure_logs(config.log_level)
    check_own_parts(config)
    stopping = threading.Event()
    with ray_of(config):
        # Only now: starting Ray replaces the handler of SIGTERM with its own.
        _stop_on_signals(stopping)
        head = Head()
        if await_cluster(config, head, stopping):
            serve(config, head, stopping)


def run_offline(arguments: Arguments) -> None:
    """Train on recorded stores until the end, or until a signal says stop."""
    if arguments.out is None:
        raise ConfigurationError("--offline needs --out DIR")
    if not 0 <= arguments.visits <= MOST_VISITS:
        raise ConfigurationError(f"--visits {arguments.visits:g}: from 0 to {MOST_VISITS:,}")
    # It loads torch and the exporter, which a learner that serves a fleet does in its actors.
    from learner.offline import default_config, train_offline

    config = default_config(arguments.out)
    if arguments.config is not None:
        config = replace(load_toml(arguments.config, LearnerConfig), run_folder=arguments.out)
    configure_logs(config.log_level)
    stopping = threading.Event()
    if config.training.workers == 1:
        _stop_on_signals(stopping)
    else:
        # Unwinding ends the other workers.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    train_offline(config, arguments.offline, arguments.visits, stopping)


def serve(config: LearnerConfig, head: Head, stopping: threading.Event) -> None:
    """Serve until ``stopping`` is set; a line of status every half a minute."""
    with Learner(config, head) as learner:
        began_s = said_s = time.monotonic()
        while not stopping.wait(LOOK_INTERVAL_S):
            head.check()
            if time.monotonic() - said_s >= STATUS_INTERVAL_S:
                said_s = time.monotonic()
                learner.check()
                say_status(learner, said_s - began_s)


def say_status(learner: Learner, served_s: float) -> None:
    """Log how the fleet stands."""
    status = learner.status()
    if status is None:
        logger.warning("the gateway does not answer; Ray starts it anew once its node is up")
        return
    logger.info(
        "%.0f s: %d robots, %d episodes stored, release %d",
        served_s,
        len(status.robots),
        status.episodes_stored,
        status.release_version,
    )


def _stop_on_signals(stopping: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())


def _said(error: Exception, status: int) -> int:
    # Ray's own errors are several lines.
    sys.stderr.write(f"learner: {' '.join(str(error).split())}\n")
    return status
