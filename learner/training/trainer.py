"""The trainer: takes what the store holds, fits the Q-function, releases it, again and again."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing
from functools import partial
from threading import Event

import torch

from learner.config import LearnerConfig
from learner.monitoring.training_report import TrainingReport
from learner.networks import build_network
from learner.training.batch_statistics import has_statistics, measure_statistics
from learner.training.batches import Batches
from learner.training.checkpoints import Checkpoint, checkpoints_of
from learner.training.device import device_of
from learner.training.history import History
from learner.training.log import TrainingLog
from learner.training.loop import LoopClock, Verdict, train
from learner.training.mixture import Mixture
from learner.training.release_maker import Outlet, ReleaseMaker
from learner.training.replay import Replay, replay_of
from learner.training.replay_feed import ReplayFeed
from learner.training.sideline import Sideline
from learner.training.snapshot import HeldOut, Snapshot
from learner.training.step import Training
from learner.training.team import Team
from learner.training.timers import TrainingTimers
from protocol.errors import ConfigurationError

logger = logging.getLogger(__name__)

_WAIT_S = 0.02
"""Between looks at the replay while there is nothing new to learn from."""
_PATIENCE_S = 10.0
"""At the end, for a candidate that is being judged or handed out."""


class Trainer:
    """Live training of one learner; a ``Course`` of its own loop. ``run`` belongs to one thread.

    Of several workers only the first, which has an outlet, evaluates, releases and saves.
    """

    def __init__(
        self, config: LearnerConfig, outlet: Outlet | None, team: Team | None = None
    ) -> None:
        """Build or resume the network and open the stores.

        Raises:
            ConfigurationError: there is no GPU as configured, a key file is missing or open to
                others, the newest checkpoint is of another network, or a history's pictures are of
                another size.
            StoreError: an episode store cannot be read.
        """
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.training.threads)
        self._config = config
        team = team or Team()
        network = build_network(
            config.network, height_px=config.image_height_px, width_px=config.image_width_px
        )
        self._training = Training(
            network,
            config.training,
            seed=config.seed,
            team=team,
            device=device_of(config.training),
        )
        self._checkpoints = checkpoints_of(config)
        resumed = self._checkpoints.restore_newest(self._training)
        if lack := self._checkpoints.lack_of_room(self._training):
            logger.error("%s; training goes on without checkpoints until there is room", lack)
        self._replay = live_replay_of(config, team)
        refiner = self._training.learned.refiner
        self._feed = ReplayFeed(
            config.gateways, self._replay, refiner, counted=resumed.counted, team=team
        )
        self._history = history_of(config, self._training)
        self._mixture = Mixture(
            self._training,
            self._replay.training,
            self._history,
            attempts=lambda: self._feed.attempts,
            history_drawn=resumed.counted.history_drawn,
        )
        self._drawn_before = self._live_drawn
        self._has_statistics = has_statistics(network)
        self._outlet = outlet
        self._releases: ReleaseMaker | None = None
        if outlet is not None:
            self._releases = ReleaseMaker(
                config,
                self._training,
                self._replay.held_out,
                outlet,
                version=resumed.release_version,
            )
        self._timers = TrainingTimers(config)
        self.clock = LoopClock()
        """How the loop's time is spent."""
        self._log = TrainingLog(config.run_folder)
        self._held_out = HeldOut()
        self._judging = Sideline("judging")
        # Apart from it: a release server that does not answer holds up no checkpoint.
        self._keeping = Sideline("keeping")
        self._started_at_ns = time.time_ns()
        self._saved_at_ns = 0
        self._stopping = Event()

    def run(self, stopping: Event) -> None:
        """Train until ``stopping`` is set, then write a checkpoint."""
        self._stopping = stopping
        self._timers = TrainingTimers(self._config)
        self._feed.start()
        with ExitStack() as ending:
            ending.enter_context(closing(self._log))
            if self._history is not None:
                ending.callback(self._history.close)
            ending.callback(self._feed.close)
            ending.callback(self._judging.close)
            ending.callback(self._keeping.close)
            if self._releases is not None:
                self._releases.begin()
                ending.callback(self._releases.close)
            self._mixture.prepare(stopping)
            with Batches(self._mixture.draw, self._training.device) as batches:
                train(self._training, batches, self, self.clock)
            # Before anything else that can fail ends.
            self._save_last()

    def verdict(self) -> Verdict:
        """See Course."""
        self._feed.check()
        if self._stopping.is_set():
            return Verdict.END
        return Verdict.STEP if self._may_step() else Verdict.WAIT

    def wait(self) -> None:
        """See Course."""
        self._stopping.wait(_WAIT_S)

    def between(self) -> None:
        """See Course: begin what is due, beside the steps; what else is due waits its turn."""
        if self._releases is None:
            return
        timers, step = self._timers, self._training.step_count
        if self._judging.is_idle():
            self._begin_judging(self._releases, timers, step)
        if not self._keeping.is_idle():
            return
        if timers.metrics_due():
            self._keeping.begin(self._tell_operators)
        elif timers.checkpoint_due(step):
            self._keeping.begin(partial(self._save, self._checkpoint()))

    def _begin_judging(self, releases: ReleaseMaker, timers: TrainingTimers, step: int) -> None:
        if self._may_judge and timers.evaluation_due(step):
            self._judging.begin(partial(self._evaluate, self._training.snapshot()))
        elif self._may_judge and releases.is_ready and timers.release_due(step):
            self._judging.begin(partial(self._release, self._training.snapshot()))

    def _evaluate(self, snapshot: Snapshot) -> None:
        began = time.monotonic()
        self._measure_statistics(snapshot)
        self._held_out = snapshot.evaluate(self._replay.held_out)
        self._timers.evaluated_in(time.monotonic() - began)

    def _release(self, snapshot: Snapshot) -> None:
        assert self._releases is not None
        if not self._releases.prepare(snapshot):
            return
        began = time.monotonic()
        self._measure_statistics(snapshot)
        self._releases.offer(snapshot, self._feed.attempts, self._held_out)
        self._timers.released_in(time.monotonic() - began)

    def _measure_statistics(self, snapshot: Snapshot) -> None:
        draw = partial(self._mixture.draw_aside, snapshot.step_count)
        measure_statistics(snapshot.averaged, draw)

    @property
    def _may_judge(self) -> bool:
        """Whether there is what a snapshot's statistics are measured on, if it has any.

        After a restart it takes as long as steps do until the replay says what the fleet does.
        """
        if not self._has_statistics:
            return True
        return self._feed.opened.is_set() and self._mixture.has_examples

    def _may_step(self) -> bool:
        # With fewer of the newest attempts than these, a resumed training would soon know them
        # by heart.
        if not self._feed.opened.is_set():
            return False
        if not self._mixture.is_live:
            return self._mixture.has_history(self._training.step_count)
        return self._visits() < self._config.training.max_visits

    def _visits(self) -> float:
        """Return how often a live example was used, on average; since the start, if that is more.

        After a resumption there are fewer to draw from than the whole run has had.
        """
        ever = self._live_drawn / max(1, self._feed.examples_ever)
        since = (self._live_drawn - self._drawn_before) / max(1, self._feed.examples)
        return max(ever, since)

    @property
    def _live_drawn(self) -> int:
        return self._training.examples_seen - self._history_drawn

    @property
    def _history_drawn(self) -> int:
        return self._mixture.history_drawn(self._training.step_count)

    def _tell_operators(self) -> None:
        assert self._outlet is not None
        self._write_metrics()
        self._outlet.report(self._report())

    def _report(self) -> TrainingReport:
        assert self._releases is not None
        training, examples = self._training, self._replay.training
        return TrainingReport(
            started_at_ns=self._started_at_ns,
            is_waiting=not self._may_step(),
            steps=training.step_count,
            examples=self.clock.steps * self._config.training.batch_size,
            timed_steps=self.clock.steps,
            step_s=self.clock.in_steps_s,
            step_share=self.clock.step_share,
            loss=training.loss,
            held_out=dict(self._held_out.figures),
            visits=self._visits(),
            visits_limit=self._config.training.max_visits,
            replay_attempts=self._replay.attempts,
            replay_examples=len(examples),
            replay_bytes=examples.size_bytes,
            replay_limit_bytes=examples.limit_bytes,
            replay_success_share=examples.success_share,
            release_version=self._releases.version,
            release_created_at_ns=self._releases.created_at_ns,
            releases_withheld=self._releases.withheld,
            releases_unpublished=self._releases.unpublished,
            releases_made=self._releases.offered,
            release_making_s=self._releases.offering_s,
            checkpoint_at_ns=self._saved_at_ns,
        )

    def _write_metrics(self) -> None:
        assert self._releases is not None
        scalars = {
            "loss": self._training.loss,
            "visits": self._visits(),
            "success_share": self._replay.training.success_share,
            "releases_withheld": self._releases.withheld,
            "step_share": self.clock.step_share,
            **self._held_out.figures,
        }
        facts = {
            "time_ns": time.time_ns(),
            "step": self._training.step_count,
            "examples": len(self._replay.training),
            "attempts": self._feed.attempts,
            "release_version": self._releases.version,
        }
        self._log.write(facts, scalars, self._training.step_count, self._figures_by_robot)

    def _figures_by_robot(self) -> dict[str, dict[str, float]]:
        moved = self._training.averaged.refiner.corrections_mm()
        return {
            "hand_eye_correction_mm": {robot_id: round(mm, 2) for robot_id, mm in moved.items()}
        }

    def _checkpoint(self) -> Checkpoint:
        assert self._releases is not None
        return self._checkpoints.take(
            self._training,
            release_version=self._releases.version,
            counted=self._feed.counted(history_drawn=self._history_drawn),
        )

    def _save(self, checkpoint: Checkpoint) -> None:
        try:
            self._checkpoints.write(checkpoint)
            self._saved_at_ns = time.time_ns()
        except OSError as error:
            # What training rests on is the store; only a restart would have to learn again.
            logger.error(  # noqa: TRY400 - the reason is all there is to know
                "checkpoint not written to %s: %s; training goes on",
                self._checkpoints.folder,
                error.strerror or error,
            )

    def _save_last(self) -> None:
        with ExitStack() as last:
            # A job that failed beside the steps says nothing against what they have learned.
            if self._training.step_count and self._releases is not None:
                last.callback(lambda: self._save(self._checkpoint()))
            last.callback(self._keeping.settle)
            last.callback(self._settle_judging)

    def _settle_judging(self) -> None:
        if not self._judging.settle(_PATIENCE_S):
            logger.error(
                "a candidate that is being judged or handed out is given up: not done %d s after "
                "the last step; does the release server answer?",
                _PATIENCE_S,
            )


def live_replay_of(config: LearnerConfig, team: Team) -> Replay:
    """Return the empty replay of one worker's part of the fleet's own attempts.

    Raises:
        ConfigurationError: see ``replay_of``.
    """
    share = 1 - config.training.history_share if config.training.history else 1.0
    return replay_of(config, share=share / team.size)


def history_of(config: LearnerConfig, training: Training) -> History | None:
    """Return one worker's part of the recorded stores; None if there are none.

    Raises:
        ConfigurationError, StoreError: see ``History``; or one of them is the fleet's own store.
    """
    if not config.training.history:
        return None
    recorded = {folder.resolve() for folder in config.training.history}
    for own in recorded & {gateway.store.resolve() for gateway in config.gateways}:
        raise ConfigurationError(
            f"training.history {own}: is the learner's own store (gateway.store), which it learns "
            "from anyway"
        )
    share = config.training.history_share / training.team.size
    return History(
        config.training.history,
        config,
        replay_of(config, share=share),
        training.learned.refiner,
        training.team,
    )
