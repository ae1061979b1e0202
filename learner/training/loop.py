"""The training loop: one function for live runs and recorded stores, one worker and several."""

from __future__ import annotations

import time
from enum import IntEnum
from typing import Protocol

from learner.training.batches import Batches
from learner.training.step import Training


class Verdict(IntEnum):
    """What to do next; of several workers' verdicts the smallest holds for all."""

    END = 0
    WAIT = 1
    STEP = 2


class Course(Protocol):
    """What decides how long to train, and what happens beside it."""

    def verdict(self) -> Verdict:
        """Say what this worker wants to do next."""

    def wait(self) -> None:
        """Let a moment pass; there is nothing to learn from."""

    def between(self) -> None:
        """Do whatever is due between two steps."""


class LoopClock:
    """How much of the loop's time goes into steps; time without anything to learn is not its."""

    def __init__(self) -> None:
        self.steps = 0
        self.in_steps_s = 0.0
        self.beside_s = 0.0

    @property
    def step_share(self) -> float:
        """Share of time spent in steps; NaN before the first."""
        total_s = self.in_steps_s + self.beside_s
        return self.in_steps_s / total_s if total_s else float("nan")


def train(training: Training, batches: Batches, course: Course, clock: LoopClock) -> None:
    """Step until the course says that it ends.

    Raises:
        TrainingDivergedError: see ``Training.step``.
    """
    while True:
        began = time.monotonic()
        verdict = Verdict(training.team.least(course.verdict()))
        if verdict is Verdict.END:
            return
        if verdict is Verdict.WAIT:
            course.wait()
            course.between()
            continue
        batch = batches.of(training.step_count)
        stepping = time.monotonic()
        training.step(batch)
        stepped = time.monotonic()
        course.between()
        clock.steps += 1
        clock.in_steps_s += stepped - stepping
        clock.beside_s += stepping - began + time.monotonic() - stepped
