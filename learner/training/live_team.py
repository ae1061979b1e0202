"""Live training by several workers: as a ``Trainer`` to whoever runs it."""

from __future__ import annotations

import threading
from functools import partial
from threading import Event
from typing import Any

import ray

from learner.config import LearnerConfig
from learner.networks import build_network
from learner.training.checkpoints import checkpoints_of
from learner.training.release_maker import Outlet
from learner.training.step import Training
from learner.training.team import Team
from learner.training.trainer import Trainer, history_of, live_replay_of
from learner.training.workers import run_team
from protocol.security import load_release_secret

_POLL_S = 0.5


class LiveTeam:
    """The workers of one live training. Each reads its part of the store, which it must reach."""

    def __init__(self, config: LearnerConfig, outlet: Outlet) -> None:
        """Look at what the workers will need; nothing starts yet.

        Args:
            config: of the learner.
            outlet: where releases go; it travels to the first worker's process.

        Raises:
            ConfigurationError, StoreError: see ``Trainer``.
        """
        _check(config)
        self._config = config
        self._outlet = outlet

    def run(self, stopping: Event) -> None:
        """Train until ``stopping`` is set, then write a checkpoint.

        Raises:
            ConfigurationError: see ``run_team``.
            ray.train.v2.api.exceptions.TrainingFailedError: with what ended a worker.
        """
        sign: Any = ray.remote(num_cpus=0)(_StopSign).remote()

        def relay() -> None:
            stopping.wait()
            sign.put_up.remote()

        threading.Thread(target=relay, name="stop-sign", daemon=True).start()
        run_team(self._config, partial(_train, config=self._config, outlet=self._outlet, sign=sign))


def _check(config: LearnerConfig) -> None:
    """Open, and close again, what each worker will open: here a failure ends the learner."""
    load_release_secret(config.keys.release_secret)
    network = build_network(
        config.network, height_px=config.image_height_px, width_px=config.image_width_px
    )
    team = Team(size=config.training.workers)
    training = Training(network, config.training, seed=config.seed, team=team)
    checkpoints_of(config).restore_newest(training)
    live_replay_of(config, team)
    if history := history_of(config, training):
        history.close()


class _StopSign:
    """An actor that every worker looks at."""

    def __init__(self) -> None:
        self._is_up = False

    def put_up(self) -> None:
        self._is_up = True

    def is_up(self) -> bool:
        return self._is_up


def _train(
    team: Team,
    *,
    config: LearnerConfig,
    outlet: Outlet,
    sign: Any,  # noqa: ANN401 - Ray's handle
) -> None:
    stopping = Event()

    def look() -> None:
        while not stopping.wait(_POLL_S):
            if ray.get(sign.is_up.remote()):
                stopping.set()

    threading.Thread(target=look, name="stop-sign", daemon=True).start()
    Trainer(config, None if team.rank else outlet, team).run(stopping)
