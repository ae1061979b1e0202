"""The trainer: takes what the store holds, fits the Q-function, releases it, again and again."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from threading import Event
from typing import Protocol

import torch

from learner.config import LearnerConfig
from learner.networks import build_network
from learner.provenance import software_versions
from learner.releases.builder import ReleaseBuilder
from learner.training.checkpoints import Checkpoints
from learner.training.collection_schedule import collection_settings
from learner.training.log import TrainingLog
from learner.training.release_gate import ReleaseGate
from learner.training.replay import Replay
from learner.training.replay_feed import ReplayFeed
from learner.training.step import Training
from learner.training.timers import TrainingTimers
from protocol.errors import RejectedReleaseError
from protocol.release import unpack_release
from protocol.release_manifest import ReleaseManifest, SearchSettings
from protocol.security import load_release_secret

logger = logging.getLogger(__name__)

_WAIT_S = 0.02
"""Between looks at the replay while there is nothing new to learn from."""


class Outlet(Protocol):
    """Where a trainer's releases go."""

    def newest(self) -> bytes | None:
        """Return the newest release's file, whatever is pinned; None before the first one."""

    def highest_version(self) -> int:
        """Return the highest version that the server or any robot has."""

    def publish(self, version: int, data: bytes) -> None:
        """Hand a signed release to whoever serves it."""

    def withhold(self, reason: str) -> None:
        """Let the operator know why weights were not released."""


class Trainer:
    """Training of one learner. ``run`` belongs to one thread."""

    def __init__(self, config: LearnerConfig, outlet: Outlet) -> None:
        """Build or resume the network and open the store.

        Raises:
            ConfigurationError: a key file is missing or open to others, or the newest checkpoint
                is of another network.
            StoreError: the episode store cannot be read.
        """
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.training.threads)
        self._config = config
        self._outlet = outlet
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
        self._gate = ReleaseGate(network, self._replay.held_out)
        self._feed = ReplayFeed(config.gateway, self._replay, self._training.learned.refiner)
        self._software = software_versions()
        self._held_out: dict[str, float] = {}
        self._loss = float("nan")
        self._withheld = 0
        newest = outlet.newest()
        if newest is not None:
            self._compare_with(newest)

    def run(self, stopping: Event) -> None:
        """Train until ``stopping`` is set, then write a checkpoint."""
        self._feed.start()
        timers = TrainingTimers(self._config)
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
                    began = time.monotonic()
                    objection = self._objection()
                    timers.judged_in(time.monotonic() - began)
                    if not objection:
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

    def _objection(self) -> str:
        """Return why the moving average must not be released, and count it; "" if it may."""
        reason = self._gate.objection(self._training.averaged)
        if reason:
            self._withheld += 1
            text = f"weights of step {self._training.step_count} are held back: {reason}"
            logger.warning("%s; training goes on", text)
            self._outlet.withhold(text)
        return reason

    def _release(self) -> None:
        """Build, sign and publish the moving average; a release that fails its checks is not."""
        version = max(self._version, self._outlet.highest_version()) + 1
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
        self._outlet.publish(version, data)
        self._compare_with(data, judged_last=True)

    def _compare_with(self, data: bytes, *, judged_last: bool = False) -> None:
        """Judge candidates by this release, as it is on the robots, from now on."""
        try:
            release = unpack_release(data, self._signing_key.public_key())
            self._version = max(self._version, release.manifest.version)
            weights = self._builder.weights_of(release)
            self._gate.now_newest(release.manifest, weights, judged_last=judged_last)
        except RejectedReleaseError as error:
            reason = " ".join(str(error).split())
            logger.warning("the next release is published without comparison: %s", reason)

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
            "releases_withheld": self._withheld,
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
