"""The trainer in a process of its own on Ray, and its typed handle."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray

from learner.accelerators import gpus_of_worker, with_device
from learner.actor_process import begin_actor
from learner.config import LearnerConfig
from learner.ingestion.gateways import Gateways
from learner.monitoring.training_report import TrainingReport
from learner.placement import actor_options, nodes_in
from learner.provenance import package_versions, write_run_record
from learner.releases.actor import ReleaseServerHandle

if TYPE_CHECKING:
    from learner.training.live_team import LiveTeam
    from learner.training.trainer import Trainer

logger = logging.getLogger(__name__)


class _Outlet:
    """See release_maker.Outlet: the release server, and the gateways that measure arrival."""

    def __init__(self, gateways: Gateways, releases: ReleaseServerHandle) -> None:
        self._gateways = gateways
        self.newest = releases.newest
        self.highest_version = releases.highest_version
        self.withhold = releases.withhold
        self._releases = releases

    def report(self, report: TrainingReport) -> None:
        self._gateways.note_training(report)

    def publish(self, version: int, data: bytes) -> None:
        # First, so that the clock runs while the release is verified, written and announced.
        self._gateways.release_published(version, set(self._releases.pins()))
        self._releases.publish(data)


class TrainingActor:
    """What runs in the actor's process. Ray starts it anew, from its checkpoint, if it dies."""

    def __init__(
        self,
        config: LearnerConfig,
        gateways: Gateways,
        releases: ReleaseServerHandle,
        software: dict[str, str],
    ) -> None:
        begin_actor(config.log_level, software)
        # Loaded in this process alone: the learner's own starts Ray meanwhile, and needs no torch.
        from learner.training.live_team import LiveTeam
        from learner.training.trainer import Trainer

        # On this node, which need not be the one that the learner was started on.
        write_run_record(config)
        # Until here this process was loading torch, while the gateway made or opened its store.
        gateways.await_endpoint()
        outlet = _Outlet(gateways, releases)
        is_alone = config.training.workers == 1
        self._trainer: Trainer | LiveTeam = (
            Trainer(config, outlet) if is_alone else LiveTeam(config, outlet)
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)
        self._thread.start()

    def is_training(self) -> bool:
        """Say whether the training thread lives; the first call returns when it has begun."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Write a checkpoint and end training."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._trainer.run(self._stopping)
        except BaseException:
            # An actor whose thread has ended would look healthy to Ray for ever.
            logger.exception("training ended; it starts anew from its checkpoint")
            os._exit(1)


class TrainingHandle:
    """The trainer as the learner sees it."""

    def __init__(
        self, config: LearnerConfig, gateways: Gateways, releases: ReleaseServerHandle
    ) -> None:
        """Start the actor, where training is to run."""
        config = with_device(config)
        is_alone = config.training.workers == 1
        options = actor_options(config.training.place)
        options["num_gpus"] = gpus_of_worker(config) if is_alone else 0
        actor_class: Any = ray.remote(**options)(TrainingActor)
        self._actor: Any = actor_class.remote(config, gateways, releases, package_versions())
        self._place = config.training.place

    def ask_start(self) -> Any:  # noqa: ANN401 - Ray's reference
        """Return what becomes true once it trains.

        Or an error, with the ConfigurationError or StoreError as its cause.
        """
        return self._actor.is_training.remote()

    def check(self, timeout_s: float) -> None:
        """Return if the trainer lives, or Ray is starting it anew.

        Raises:
            ray.exceptions.RayError: it is gone for good.
        """
        with suppress(ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
            ray.get(self._actor.is_training.remote(), timeout=timeout_s)

    def stop(self, timeout_s: float) -> None:
        """End training after a checkpoint, then the actor, also one whose node is gone.

        Raises:
            ray.exceptions.RayError: its node is there, and it could not.
        """
        try:
            ray.get(self._actor.stop.remote(), timeout=timeout_s)
        except ray.exceptions.RayActorError as error:
            if nodes_in(self._place):
                raise
            # It resumes from what it had saved before.
            logger.warning("the trainer is not there to be stopped: %s", error)
        finally:
            ray.kill(self._actor, no_restart=True)
