"""Draws batches: from live attempts, and from recorded ones in a stated ratio."""

from __future__ import annotations

from learner.config import TrainingConfig
from learner.training.batch import Batch, joined
from learner.training.example_set import ExampleSet
from learner.training.history import History
from learner.training.random_streams import Stream
from learner.training.step import Training


class Mixture:
    """What a live run learns from. ``draw`` belongs to one thread."""

    def __init__(
        self,
        training: Training,
        live: ExampleSet,
        history: History | None,
        *,
        history_drawn: int = 0,
    ) -> None:
        self._training = training
        self._live = live
        self._history = history
        self.history_drawn = history_drawn
        """Examples of the history that steps have used, of the whole team."""

    def draw(self, step: int) -> Batch:
        """Return this worker's part of the batch of a step.

        The history alone while there is hardly anything else; without it once it is worn out.
        """
        training, live = self._training, self._live
        count = training.own_batch_size
        recorded = self._recorded(step)
        if recorded is None:
            return training.sample(live, step, count)
        is_live = len(live) >= training.config.first_after_attempts
        share = training.config.history_share if is_live else 1.0
        of_history = round(share * count)
        self.history_drawn += of_history * training.team.size
        parts = [training.sample(recorded, step, of_history, Stream.HISTORY)]
        if count > of_history:
            parts.append(training.sample(live, step, count - of_history))
        return joined(parts)

    def has_history(self) -> bool:
        """Say whether there are recorded examples that may still be used."""
        return self._history is not None and not _is_worn(
            self._history, self.history_drawn, self._training.config
        )

    def _recorded(self, step: int) -> ExampleSet | None:
        if self._history is None:
            return None
        self._history.advance_to(step)
        is_of_use = len(self._history.examples) and self.has_history()
        return self._history.examples if is_of_use else None


def _is_worn(history: History, drawn: int, config: TrainingConfig) -> bool:
    return history.is_read and drawn >= config.max_visits * config.workers * len(history.examples)
