"""Batches, drawn ahead on a thread of their own, so that the step never waits for one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from learner.training.batch import Batch

Draw = Callable[[int], Batch]
"""Returns the batch of a step; always called from one thread, with rising steps."""


class Batches:
    """A context manager: the batch of each step, the next one drawn while it is trained on."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._thread = ThreadPoolExecutor(1, "batches")
        self._step = -1
        self._next: Future[Batch] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread after the batch at hand."""
        self._thread.shutdown(cancel_futures=True)

    def of(self, step: int) -> Batch:
        """Return the batch of a step, and begin the one after it."""
        drawn = self._next
        if drawn is None or step != self._step:
            drawn = self._thread.submit(self._draw, step)
        batch = drawn.result()
        self._step = step + 1
        self._next = self._thread.submit(self._draw, step + 1)
        return batch
