"""The trainer: takes what the store holds, fits the Q-function, releases it, again and again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from threading import Event

import torch

from learner.checkpoints import Checkpoints
from learner.collection_schedule import collection_settings
from learner.config import LearnerConfig
from learner.networks import build_network
from learner.provenance import software_versions
from learner.release_builder import ReleaseBuilder
from learner.replay import Replay
from learner.replay_feed import ReplayFeed
from learner.training import Training
from learner.training_log import TrainingLog
from protocol.errors import RejectedReleaseError
from protocol.release_manifest import ReleaseManifest, SearchSettings
from protocol.security import load_release_secret

logger = logging.getLogger(__name__)

METRICS_INTERVAL_S = 1.0
EVALUATION_INTERVAL_S, EVALUATION_PAUSE = 5.0, 30.0
"""Shortest time between evaluations, and as a multiple of what one takes."""
_WAIT_S = 0.02
"""Between looks at the replay while there is nothing new to learn from."""

Publish = Callable[[int, bytes], None]
"""Hands a signed release of this version to whoever serves it."""


class Trainer:
    """Training of one learner. ``run`` belongs to one thread."""

    def __init__(self, config: LearnerConfig, publish: Publish) -> None:
        """Build or resume the network and open the store.

        Raises:
            ConfigurationError: a key file is missing or open to others, or the newest checkpoint
                is of another network.
            StoreError: the episode store cannot be read.
        """
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.training.threads)
        self._config = config
        self._publish = publish
        self._signing_key = load_release_secret(config.keys.release_secret)
        network = build_network(
            config.network, height_px=config.image_height_px, width_px=config.image_width_px
        )
        self._training = Training(network, config.training, seed=config.seed)
        self._builder = ReleaseBuilder(network)
        self._checkpoints = Checkpoints(
            folder=config.run_folder / "checkpoints", network=config.network
        )
        self._version = self._checkpoints.restore_newest(self._training)
        self._replay = Replay(
            height_px=config.image_height_px,
            width_px=config.image_width_px,
            held_out_fraction=config.training.held_out_fraction,
        )
        self._feed = ReplayFeed(config.gateway, self._replay, self._training.learned.refiner)
        self._software = software_versions()
        self._held_out: dict[str, float] = {}
        self._loss = float("nan")

    def continue_after(self, version: int) -> None:
        """Number releases above ``version``: robots refuse a release older than their own."""
        self._version = max(self._version, version)

    def run(self, stopping: Event) -> None:
        """Train until ``stopping`` is set, then write a checkpoint."""
        self._feed.start()
        timers = _Timers(self._config)
        with closing(TrainingLog(self._config.run_folder)) as log:
            while not stopping.is_set():
                self._feed.check()
                if self._may_step():
                    self._loss = self._training.step(self._replay.training)
                else:
                    stopping.wait(_WAIT_S)
                if timers.evaluation_due(self._training.step_count):
                    began = time.monotonic()
                    self._held_out = self._training.evaluate(self._replay.held_out)
                    timers.evaluated_in(time.monotonic() - began)
                if timers.release_due(self._training.step_count):
                    self._release()
                if timers.metrics_due():
                    self._write_metrics(log)
                if timers.checkpoint_due(self._training.step_count):
                    self._save()
        self._feed.close()
        self._save()

    def _may_step(self) -> bool:
        config, examples = self._config.training, self._replay.training
        # After a restart the oldest attempts come first: learning from them alone, and telling
        # the fleet to explore as it did then, would undo what the checkpoint knows.
        if not self._feed.caught_up.is_set():
            return False
        enough = self._replay.attempts >= config.first_after_attempts and len(examples) > 0
        return enough and self._visits() < config.max_visits

    def _visits(self) -> float:
        return self._training.examples_seen / max(1, len(self._replay.training))

    def _release(self) -> None:
        """Build, sign and publish the moving average; a release that fails its checks is not."""
        version = self._version + 1
        try:
            data = self._builder.build(
                self._training.averaged.network.state_dict(),
                self._manifest(version),
                self._signing_key,
            )
        except RejectedReleaseError:
            logger.exception("release %d not published", version)
            return
        self._version = version
        self._publish(version, data)

    def _manifest(self, version: int) -> ReleaseManifest:
        metrics = {
            "step": float(self._training.step_count),
            "examples_seen": float(self._training.examples_seen),
            "attempts": float(self._replay.attempts),
        }
        return ReleaseManifest(
            version=version,
            parent=self._version,
            created_at_ns=time.time_ns(),
            network=self._config.network,
            image_height_px=self._config.image_height_px,
            image_width_px=self._config.image_width_px,
            encode_bytes=1,
            score_bytes=1,
            search=SearchSettings(),
            collection=collection_settings(self._replay.attempts, self._config.collection),
            hand_eye_maps=self._training.averaged.refiner.refined_maps(self._training.map_doubts),
            metrics=metrics | self._held_out,
            software=self._software,
        )

    def _write_metrics(self, log: TrainingLog) -> None:
        scalars = {
            "loss": self._loss,
            "visits": self._visits(),
            "success_share": self._replay.training.success_share,
            **self._held_out,
        }
        facts = {
            "time_ns": time.time_ns(),
            "step": self._training.step_count,
            "examples": len(self._replay.training),
            "attempts": self._replay.attempts,
            "release_version": self._version,
            "hand_eye_correction_mm": self._training.averaged.refiner.corrections_mm(),
        }
        log.write(facts, scalars, self._training.step_count)

    def _save(self) -> None:
        if not self._training.step_count:
            return
        try:
            self._checkpoints.save(self._training, release_version=self._version)
        except OSError as error:
            # What training rests on is the store; only a restart would have to learn again.
            logger.error(  # noqa: TRY400 - the reason is all there is to know
                "checkpoint not written to %s: %s; training goes on",
                self._checkpoints.folder,
                error.strerror,
            )


class _Timers:
    """What is due when, by the monotonic clock; most of it only when training went on since."""

    def __init__(self, config: LearnerConfig) -> None:
        self._config = config
        self._began = time.monotonic()
        self._last: dict[str, tuple[float, int]] = {}
        self._evaluation_interval_s = EVALUATION_INTERVAL_S

    def release_due(self, step: int) -> bool:
        return self._due("release", self._config.releases.interval_s, step)

    def metrics_due(self) -> bool:
        return self._due("metrics", METRICS_INTERVAL_S, None)

    def evaluation_due(self, step: int) -> bool:
        return self._due("evaluation", self._evaluation_interval_s, step)

    def evaluated_in(self, duration_s: float) -> None:
        # A large network takes seconds for it; training shall keep its time.
        self._evaluation_interval_s = max(EVALUATION_INTERVAL_S, EVALUATION_PAUSE * duration_s)

    def checkpoint_due(self, step: int) -> bool:
        return self._due("checkpoint", self._config.training.checkpoint_interval_s, step)

    def _due(self, what: str, interval_s: float, step: int | None) -> bool:
        now = time.monotonic()
        last_s, last_step = self._last.get(what, (self._began, 0))
        due = now - last_s >= interval_s and (step is None or step > last_step)
        if due:
            self._last[what] = (now, step or 0)
        return due
