"""Training on recorded stores alone, without a robot: ``python -m learner --offline STORE``."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event

import torch

from learner.accelerators import with_device
from learner.cluster import ray_of
from learner.config import KeysConfig, LearnerConfig
from learner.networks import build_network
from learner.provenance import software_versions, write_run_record
from learner.releases.builder import ReleaseBuilder
from learner.training.batch import Batch
from learner.training.batch_statistics import (
    BATCH_SIZE,
    BATCHES,
    has_statistics,
    measure_statistics,
)
from learner.training.batches import Batches
from learner.training.checkpoints import checkpoints_of
from learner.training.device import device_of
from learner.training.history import History
from learner.training.log import TrainingLog, last_figures
from learner.training.loop import LoopClock, Verdict, train
from learner.training.release_maker import manifest_of
from learner.training.replay import replay_of
from learner.training.snapshot import HeldOut
from learner.training.step import Training
from learner.training.team import Team
from learner.training.workers import run_team
from protocol.errors import ConfigurationError
from protocol.release_manifest import CollectionSettings
from protocol.security import load_release_secret

logger = logging.getLogger(__name__)

_REPORTS = 20
"""Lines of progress in a training, each with an evaluation on what was held out."""
_PAUSE = 40
"""Examples trained on between two of them at least, for each that one of them looks at."""
RELEASE_NAME = "offline.gfrel"


def default_config(out: Path) -> LearnerConfig:
    """Return what an offline training without a configuration file uses; it signs no release."""
    keys = KeysConfig(
        server_secret=out / "server.secret",
        release_secret=out / "release.secret",
        registry=out / "registry",
    )
    return LearnerConfig(run_folder=out, keys=keys)


class OfflineRun:
    """A training on recorded stores; a ``Course`` of its own loop.

    Started again with the same arguments, it goes on from its newest checkpoint, on the very
    weights that it would have had without the interruption.
    """

    def __init__(
        self, config: LearnerConfig, stores: Sequence[Path], visits: float, team: Team | None = None
    ) -> None:
        """Build or resume the network and open the stores.

        Args:
            config: of the learner; everything goes into its ``run_folder``.
            stores: folders of episode stores.
            visits: how many times each example is used, on average.
            team: the workers that train together.

        Raises:
            ConfigurationError: the newest checkpoint is of another network, the pictures of a
                store are of another size, there is no room for a checkpoint.
            StoreError: a store cannot be read.
        """
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.training.threads)
        self._config = config
        self._visits = visits
        team = team or Team()
        network = build_network(
            config.network, height_px=config.image_height_px, width_px=config.image_width_px
        )
        self.training = Training(
            network,
            config.training,
            seed=config.seed,
            team=team,
            device=device_of(config.training),
        )
        self._checkpoints = checkpoints_of(config)
        self._checkpoints.restore_newest(self.training)
        if lack := self._checkpoints.lack_of_room(self.training):
            raise ConfigurationError(f"{lack}; make room, or keep them elsewhere")
        self._replay = replay_of(config, share=1 / team.size)
        refiner = self.training.learned.refiner
        # Twice what steps use up: the end is not reached before all has been read.
        least_per_step = round(2 * config.training.batch_size / visits) if visits else 0
        self.history = History(
            stores, config, self._replay, refiner, team, least_per_step=least_per_step
        )
        self.held_out = HeldOut()
        """What the last report found."""
        self.clock = LoopClock()
        self._log = TrainingLog(config.run_folder, rarely_s=0.0)
        self._stopping = Event()
        self._began_s = time.monotonic()
        self._report_due = 0.0
        self._save_at = self._began_s + config.training.checkpoint_interval_s

    def run(self, stopping: Event) -> None:
        """Train to the end, or until ``stopping`` is set; then write a checkpoint.

        The figures of every report are in the log of the run folder.

        Raises:
            ConfigurationError: there is no labelled attempt in the stores, or what was trained
                cannot be written.
        """
        self._stopping = stopping
        self.history.advance_to(self.training.step_count, stopping)
        if not len(self.history.examples) and not stopping.is_set():
            raise ConfigurationError("no labelled attempts in the stores")
        with closing(self.history), closing(self._log):
            with Batches(self.draw, self.training.device) as batches:
                train(self.training, batches, self, self.clock)
            self._report()
        try:
            self._save()
        except OSError as error:
            raise ConfigurationError(_unwritten(self._checkpoints.folder, error)) from error

    def verdict(self) -> Verdict:
        """See Course."""
        is_over = self.is_done or self._stopping.is_set()
        return Verdict.END if is_over else Verdict.STEP

    @property
    def is_done(self) -> bool:
        """Whether every example was used as often as wanted."""
        is_read = self.history.is_read and self.training.examples_seen >= self._wanted()
        return is_read or not self._visits

    def wait(self) -> None:
        """See Course; what has been recorded need not be waited for."""

    def between(self) -> None:
        """See Course: a report at every twentieth of the way, a checkpoint when it is due."""
        if self.training.examples_seen >= self._report_due:
            self._report()
        if time.monotonic() >= self._save_at:
            try:
                self._save()
            except OSError as error:
                logger.error("%s; training goes on", _unwritten(self._checkpoints.folder, error))  # noqa: TRY400

    def draw(self, step: int) -> Batch:
        """Return this worker's part of the batch of a step; see Batches."""
        self.history.advance_to(step)
        training = self.training
        return training.sample(self.history.examples, step, training.own_batch_size)

    def _wanted(self) -> float:
        """Return how many examples steps are to use, from what has been read so far."""
        return self._visits * len(self.history.examples) * self.training.team.size

    def _report(self) -> None:
        training = self.training
        began = time.monotonic()
        judged_by = len(self._replay.held_out) * training.team.size
        if has_statistics(training.learned.network):
            judged_by += BATCHES * BATCH_SIZE
        interval = max(self._wanted() / _REPORTS, _PAUSE * judged_by)
        self._report_due = training.examples_seen + interval
        if training.team.rank:
            return
        self._measure_statistics()
        self.held_out = training.snapshot().evaluate(self._replay.held_out)
        found = dict(self.held_out.figures) | {
            "loss": training.loss,
            "step": float(training.step_count),
            "attempts": float(self._replay.attempts * training.team.size),
            "visits": self._visits * training.examples_seen / max(1.0, self._wanted()),
            "wall_s": began - self._began_s,
            "step_share": self.clock.step_share,
        }
        # Before the first step there is no loss and no share.
        figures = {name: value for name, value in found.items() if math.isfinite(value)}
        self._log.write({}, figures, training.step_count)
        facts = " ".join(f"{name} {value:.4g}" for name, value in figures.items())
        logger.info("%s", facts)

    def _measure_statistics(self) -> None:
        """Give the average statistics of its own, in place: the last checkpoint carries them.

        Whoever builds the release has that checkpoint alone where several workers trained. The
        next step takes them back, and nothing that is trained depends on them.
        """
        training, examples = self.training, self.history.examples
        if not len(examples):
            return  # stopped before anything was read

        def draw(number: int) -> Batch:
            return training.sample_aside(examples, training.step_count, number, BATCH_SIZE)

        measure_statistics(training.averaged, draw)

    def _save(self) -> None:
        self._save_at = time.monotonic() + self._config.training.checkpoint_interval_s
        if not self.training.team.rank:
            self._checkpoints.save(self.training, release_version=1)


def train_offline(
    config: LearnerConfig, stores: Sequence[Path], visits: float, stopping: Event
) -> Path | None:
    """Train on everything in the stores; return the signed release.

    None without a key for one, and when it was stopped before its end.

    Raises:
        ConfigurationError, StoreError: see OfflineRun; or the signing key is open to others.
    """
    write_run_record(config)
    has_key = config.keys.release_secret.exists()
    signing_key = load_release_secret(config.keys.release_secret) if has_key else None
    training, held_out = _trained(config, stores, visits, stopping)
    if stopping.is_set():
        logger.info("stopped at step %d; started again, it goes on", training.step_count)
        return None
    if signing_key is None:
        logger.info("trained; no release: %s is not there", config.keys.release_secret)
        return None
    settings = CollectionSettings(
        random_fraction=0.0, explore_fraction=0.0, max_moves=config.collection.final_max_moves
    )
    snapshot = training.snapshot()
    manifest = manifest_of(
        config,
        snapshot,
        version=1,
        parent=0,
        collection=settings,
        held_out=held_out,
        metrics=last_figures(config.run_folder),
        software=software_versions(),
    )
    averaged = snapshot.averaged.network
    release = ReleaseBuilder(averaged).build(averaged.state_dict(), manifest, signing_key)
    path = config.run_folder / RELEASE_NAME
    try:
        path.write_bytes(release)
    except OSError as error:
        raise ConfigurationError(_unwritten(path, error)) from error
    logger.info("release written to %s", path)
    return path


def _trained(
    config: LearnerConfig, stores: Sequence[Path], visits: float, stopping: Event
) -> tuple[Training, HeldOut]:
    """Return the training at its end, and what is known of it."""
    if config.training.workers == 1:
        run = OfflineRun(config, stores, visits)
        run.run(stopping)
        return run.training, run.held_out
    with ray_of(config):
        config = with_device(config)
        run_team(config, partial(_run_as_one_of, config=config, stores=stores, visits=visits))
    network = build_network(
        config.network, height_px=config.image_height_px, width_px=config.image_width_px
    )
    training = Training(network, config.training, seed=config.seed)
    checkpoints_of(config).restore_newest(training)
    return training, HeldOut()


def _run_as_one_of(
    team: Team, config: LearnerConfig, stores: Sequence[Path], visits: float
) -> None:
    OfflineRun(config, stores, visits, team).run(Event())


def _unwritten(where: object, error: OSError) -> str:
    return f"{where}: cannot be written: {error.strerror or error}"
