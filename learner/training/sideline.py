"""What need not hold up the steps: judging, releasing and writing, on threads of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial


class Sideline:
    """Does one thing at a time while training goes on.

    Its thread is a daemon: a job that waits for another machine for ever keeps no process alive.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._job: Future[None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

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
        if self._job is None:
            self._thread.start()
        self._job = Future()
        self._jobs.put(partial(_do, job, self._job))

    def settle(self, patience_s: float | None = None) -> bool:
        """Wait for the job at hand; False if it is still under way after that time.

        Raises:
            BaseException: whatever ended it.
        """
        if self._job is not None:
            wait([self._job], timeout=patience_s)
        return self.is_idle()

    def close(self) -> None:
        """Begin nothing more; does not wait for the job at hand."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _do(job: Callable[[], None], done: Future[None]) -> None:
    try:
        job()
    except BaseException as error:  # noqa: BLE001 - raised where the job was begun
        done.set_exception(error)
    else:
        done.set_result(None)
