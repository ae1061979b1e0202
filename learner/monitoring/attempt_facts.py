"""What operators count of an attempt, taken from its record while that is decoded anyway."""

from __future__ import annotations

import msgspec

from protocol.episode import Label, Mode, StepKind
from protocol.episode_meta import EpisodeMeta


class AttemptFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt, as far as it is counted when its record is stored."""

    task: str
    label: Label
    mode: Mode
    release_version: int
    predicted: float | None
    """Success that the network predicted for closing where the robot closed; None when no network
    decided, or the robot never closed."""
    tests_disagree: bool
    """Gripper reading and drop test contradict each other."""
    decisions_ms: list[float]
    """Of the network's decisions."""
    record_bytes: int


def facts_of(meta: EpisodeMeta, record_bytes: int) -> AttemptFacts:
    """Return what is counted of the attempt with this ``meta``."""
    steps, outcome = meta.steps, meta.outcome
    is_aborted = outcome.label is Label.ABORTED
    closing = steps[-1] if steps and steps[-1].kind is StepKind.CLOSE else None
    differ = outcome.opening_says_held != outcome.drop_test_says_held
    return AttemptFacts(
        task=meta.task,
        label=outcome.label,
        mode=meta.mode,
        release_version=meta.policy.release_version,
        predicted=closing.predicted_stay if closing and not is_aborted else None,
        tests_disagree=differ and not is_aborted,
        decisions_ms=[step.decision_ms for step in steps if step.predicted_best is not None],
        record_bytes=record_bytes,
    )
