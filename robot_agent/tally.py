"""What an agent counts, for its heartbeats."""

from __future__ import annotations

from collections import deque

import numpy as np

from protocol.episode import Episode, Label

_RECENT_DECISIONS = 500


class Tally:
    """Attempts since the agent started, and how long its recent decisions took."""

    def __init__(self) -> None:
        self.attempts = 0
        self.successes = 0
        self._decisions_ms: deque[float] = deque(maxlen=_RECENT_DECISIONS)

    def add(self, episode: Episode) -> None:
        """Count a finished attempt."""
        self.attempts += 1
        self.successes += episode.outcome.label == Label.SUCCESS
        for step in episode.steps:
            if step.predicted_best is not None:
                self._decisions_ms.append(step.decision_ms)

    def decision_ms(self, quantile: float) -> float:
        """Return a quantile of the recent decision times; 0 before the first decision."""
        decisions = list(self._decisions_ms)
        return float(np.quantile(decisions, quantile)) if decisions else 0.0
