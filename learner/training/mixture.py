"""Draws batches: from live attempts, and from recorded ones in a stated ratio."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from learner.config import TrainingConfig
from learner.training.batch import Batch, joined
from learner.training.batch_statistics import BATCH_SIZE
from learner.training.example_set import ExampleSet
from learner.training.history import History
from learner.training.random_streams import Stream
from learner.training.step import Training


class Mixture:
    """What a live run learns from. Batches of steps are drawn by one thread, others by any."""

    def __init__(
        self,
        training: Training,
        live: ExampleSet,
        history: History | None,
        *,
        attempts: Callable[[], int],
        history_drawn: int = 0,
    ) -> None:
        """Draw nothing yet.

        Args:
            training: what draws.
            live: examples of the fleet's own attempts.
            history: recorded ones.
            attempts: returns how many attempts the whole fleet has made, ever.
            history_drawn: see the method, when training begins.
        """
        self._training = training
        self._live = live
        self._history = history
        self._attempts = attempts
        # Of the history: drawn before the newest batch, that batch's step, drawn with it.
        self._drawn = (history_drawn, training.step_count - 1, history_drawn)

    def prepare(self, stopping: Event) -> None:
        """Read what the first draw needs, before it; less of it once ``stopping`` is set."""
        if self._history is not None:
            self._history.advance_to(self._training.step_count, stopping)

    def draw(self, step: int) -> Batch:
        """Return this worker's part of the batch of a step.

        The history alone while there is hardly anything else; without it once it is worn out.
        """
        training, live = self._training, self._live
        count = training.own_batch_size
        recorded = self._recorded(step)
        if recorded is None:
            return training.sample(live, step, count)
        share = training.config.history_share if self.is_live else 1.0
        of_history = round(share * count)
        drawn = self._drawn[2]
        self._drawn = (drawn, step, drawn + of_history * training.team.size)
        parts = [training.sample(recorded, step, of_history, Stream.HISTORY)]
        if count > of_history:
            parts.append(training.sample(live, step, count - of_history))
        return joined(parts)

    def draw_aside(self, step: int, number: int) -> Batch:
        """Return one of the batches for statistics at a step; none of it counts as used.

        In the ratio of the steps' own batches. ``has_examples`` must be true.
        """
        training = self._training
        of_history = round(self._history_share(step) * BATCH_SIZE)
        parts = []
        if of_history:
            assert self._history is not None
            recorded = self._history.examples
            parts.append(training.sample_aside(recorded, step, number, of_history))
        if left := BATCH_SIZE - of_history:
            parts.append(training.sample_aside(self._live, step, number, left))
        return joined(parts)

    @property
    def is_live(self) -> bool:
        """Whether the fleet has made enough attempts of its own to learn from them."""
        wanted = self._training.config.first_after_attempts
        return len(self._live) > 0 and self._attempts() >= wanted

    @property
    def has_examples(self) -> bool:
        """Whether there is anything to draw from, worn out or not."""
        return self.is_live or self._has_recorded

    def has_history(self, step: int) -> bool:
        """Say whether there are recorded examples that a step may still use."""
        history = self._history
        if history is None or not self._has_recorded:
            return False
        return not _is_worn(history, self.history_drawn(step), self._training.config)

    def history_drawn(self, step: int) -> int:
        """Return how many recorded examples the whole team has used before a step.

        The batch drawn ahead for that step does not count.
        """
        before, newest_step, through = self._drawn
        return before if newest_step >= step else through

    @property
    def _has_recorded(self) -> bool:
        return self._history is not None and len(self._history.examples) > 0

    def _history_share(self, step: int) -> float:
        """Return what part of a step's batch is recorded examples."""
        if not self.is_live:
            return 1.0
        return self._training.config.history_share if self.has_history(step) else 0.0

    def _recorded(self, step: int) -> ExampleSet | None:
        if self._history is None:
            return None
        self._history.advance_to(step)
        # A batch is drawn ahead: worn examples are better than none until a live one comes.
        is_all_there_is = len(self._history.examples) and not len(self._live)
        return self._history.examples if is_all_there_is or self.has_history(step) else None


def _is_worn(history: History, drawn: int, config: TrainingConfig) -> bool:
    return history.is_read and drawn >= config.max_visits * config.workers * len(history.examples)
