"""What is due when in training, by the monotonic clock."""

from __future__ import annotations

import time

from learner.config import LearnerConfig

METRICS_INTERVAL_S = 1.0
EVALUATION_INTERVAL_S, EVALUATION_PAUSE = 5.0, 100.0
"""Shortest time between evaluations, and as a multiple of what one takes."""
RELEASE_PAUSE = 30.0
"""Time between releases at least, as a multiple of what judging and building one takes."""


class TrainingTimers:
    """Timers of one learner; most of them run only when training went on since."""

    def __init__(self, config: LearnerConfig) -> None:
        self._config = config
        self._began = time.monotonic()
        self._last: dict[str, tuple[float, int]] = {}
        self._evaluation_interval_s = EVALUATION_INTERVAL_S
        self._release_interval_s = config.releases.interval_s

    def release_due(self, step: int) -> bool:
        """Say whether it is time for a release."""
        return self._due("release", self._release_interval_s, step)

    def released_in(self, duration_s: float) -> None:
        """Note what a release took, held back or not. A large network takes seconds for it."""
        self._release_interval_s = max(self._config.releases.interval_s, RELEASE_PAUSE * duration_s)

    def metrics_due(self) -> bool:
        """Say whether it is time to write a line of metrics, whether training goes on or not."""
        return self._due("metrics", METRICS_INTERVAL_S, None)

    def evaluation_due(self, step: int) -> bool:
        """Say whether it is time to evaluate on held-out examples."""
        return self._due("evaluation", self._evaluation_interval_s, step)

    def evaluated_in(self, duration_s: float) -> None:
        """Note what an evaluation took. A large network takes seconds for it."""
        self._evaluation_interval_s = max(EVALUATION_INTERVAL_S, EVALUATION_PAUSE * duration_s)

    def checkpoint_due(self, step: int) -> bool:
        """Say whether it is time for a checkpoint."""
        return self._due("checkpoint", self._config.training.checkpoint_interval_s, step)

    def _due(self, what: str, interval_s: float, step: int | None) -> bool:
        now = time.monotonic()
        last_s, last_step = self._last.get(what, (self._began, 0))
        due = now - last_s >= interval_s and (step is None or step > last_step)
        if due:
            self._last[what] = (now, step or 0)
        return due
