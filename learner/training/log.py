"""The course of training on disk: ``metrics.jsonl`` and TensorBoard's files."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

FILE_BYTES = 64 * 2**20
"""A file that is longer is put by: ``metrics.jsonl`` becomes ``metrics.jsonl.1``."""
KEPT_FILES = 4
"""Of those that were put by; the fourth is the oldest. With the newest, 320 MiB at most."""
RARELY_S = 60.0
"""Between figures of each robot, and between points of TensorBoard's curves: of a line a second,
they would be what fills a disk."""

_NAME = "metrics.jsonl"
_LONGEST_LINE_BYTES = 2**20


class TrainingLog:
    """Appends one line of figures at a time. A full disk costs lines, never the training."""

    def __init__(
        self, folder: Path, *, rarely_s: float = RARELY_S, file_bytes: int = FILE_BYTES
    ) -> None:
        """Args: ``rarely_s`` is 0 where lines themselves are rare."""
        self._folder = folder
        self._rarely_s = rarely_s
        self._file_bytes = file_bytes
        self._rarely_due_s = 0.0
        self._board: SummaryWriter | None = None
        self._is_failing = False

    def write(
        self,
        facts: Mapping[str, Any],
        scalars: Mapping[str, float],
        step: int,
        rarely: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """Append ``facts`` and ``scalars`` as one line; ``scalars`` go to TensorBoard too.

        Args:
            facts: of the line.
            scalars: of the line, and of TensorBoard's curves once every ``rarely_s``.
            step: of the training.
            rarely: called for more facts of the line, once every ``rarely_s``.
        """
        is_rare = time.monotonic() >= self._rarely_due_s
        more = rarely() if is_rare else {}
        try:
            self._append(msgspec.json.encode({**facts, **scalars, **more}) + b"\n")
            if is_rare:
                self._show(scalars, step)
                self._rarely_due_s = time.monotonic() + self._rarely_s
        except OSError as error:
            # TensorBoard's writer never recovers from an error; the next line gets a new one.
            self._board = None
            if not self._is_failing:
                logger.error(  # noqa: TRY400 - the reason is all there is to know
                    "metrics not written to %s: %s; training goes on", self._folder, error.strerror
                )
            self._is_failing = True
        else:
            self._is_failing = False

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        if self._board is None:
            return
        try:
            self._board.close()
        except OSError as error:
            logger.warning("last metrics not written to %s: %s", self._folder, error.strerror)

    def _append(self, line: bytes) -> None:
        path = self._folder / _NAME
        if path.exists() and path.stat().st_size + len(line) > self._file_bytes:
            self._put_by()
        with path.open("ab") as file:
            begin = file.tell()
            try:
                file.write(line)
                file.flush()
            except OSError:
                # Half a line would spoil the next one.
                file.truncate(begin)
                raise

    def _put_by(self) -> None:
        files = _files(self._folder)
        for newer, older in reversed(list(pairwise(files))):
            if newer.exists():
                newer.replace(older)

    def _show(self, scalars: Mapping[str, float], step: int) -> None:
        if self._board is None:
            self._board = SummaryWriter(str(self._folder / "tensorboard"))
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)


def last_figures(folder: Path) -> dict[str, float]:
    """Return the last line of a run folder's log; {} when there is none."""
    for path in _files(folder):
        if line := _last_line(path):
            return msgspec.json.decode(line, type=dict[str, float])
    return {}


def _files(folder: Path) -> list[Path]:
    """Return where a log's lines are, newest first; some files may be missing."""
    return [folder / _NAME, *(folder / f"{_NAME}.{age}" for age in range(1, KEPT_FILES + 1))]


def _last_line(path: Path) -> bytes:
    """Return a file's last line; b"" when it has none, or there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LONGEST_LINE_BYTES))
            return file.read().rstrip(b"\n").rpartition(b"\n")[2]
    except FileNotFoundError:
        return b""
