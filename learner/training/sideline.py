"""What need not hold up the steps: judging, releasing and writing, on a thread of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Sideline:
    """Does one thing at a time while training goes on."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "beside-training")
        self._job: Future[None] | None = None

    def is_idle(self) -> bool:
        """Say whether something new may begin.

        Raises:
            BaseException: whatever ended the last job.
        """
        if self._job is None:
            return True
        if not self._job.done():
            return False
        self._job.result()
        return True

    def begin(self, job: Callable[[], None]) -> None:
        """Begin a job; nothing else must be under way."""
        assert self.is_idle()
        self._job = self._thread.submit(job)

    def close(self) -> None:
        """End after the job at hand.

        Raises:
            BaseException: whatever ended it.
        """
        self._thread.shutdown()
        self.is_idle()
