"""What the trainer tells the gateway of itself every second, for operators."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingReport:
    """How training goes. Counters begin when the trainer starts, but for ``steps``."""

    started_at_ns: int
    """When the trainer's process began to train, UTC."""
    is_waiting: bool
    """There is nothing new to learn from."""
    steps: int
    """Of the whole training; they go back to the checkpoint that it is resumed from."""
    examples: int
    """That the steps of this process have used."""
    timed_steps: int
    """Steps of this process."""
    step_s: float
    """What those took together."""
    step_share: float
    """Of the loop's time, what goes into steps; NaN before the first."""
    loss: float
    held_out: dict[str, float]
    """By name, see ``Training.evaluate``; empty before the first evaluation."""
    visits: float
    """How often an example was used, on average."""
    visits_limit: float
    replay_attempts: int
    replay_examples: int
    replay_bytes: int
    replay_limit_bytes: int
    replay_success_share: float
    release_version: int
    release_created_at_ns: int
    """UTC; 0 before the first release."""
    releases_withheld: int
    releases_unpublished: int
    """Candidates that were good, and that the release server did not take: no answer."""
    releases_made: int
    """Candidates that were judged, withheld ones too."""
    release_making_s: float
    """What those took together."""
    checkpoint_at_ns: int
    """When the last one was written, UTC; 0 before the first."""
