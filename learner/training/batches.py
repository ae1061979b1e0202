"""Batches, drawn ahead on a thread of their own, so that the step never waits for one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch

from learner.training.batch import Batch

Draw = Callable[[int], Batch]
"""Returns the batch of a step; always called from one thread, with rising steps."""


class Batches:
    """A context manager: the batch of each step, the next one drawn while it is trained on."""

    def __init__(self, draw: Draw, device: torch.device | None = None) -> None:
        """Draw nothing yet.

        Args:
            draw: gives a batch in ordinary memory.
            device: where steps will want it; the CPU by default.
        """
        self._draw = draw
        self._gpu = device if device is not None and device.type == "cuda" else None
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
            drawn = self._thread.submit(self._ready, step)
        batch = drawn.result()
        self._step = step + 1
        self._next = self._thread.submit(self._ready, step + 1)
        return batch

    def _ready(self, step: int) -> Batch:
        batch = self._draw(step)
        if self._gpu is None:
            return batch
        with torch.cuda.device(self._gpu):  # every thread has its own
            return batch.pinned()
