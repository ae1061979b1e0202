"""The course of training on disk: ``metrics.jsonl`` and TensorBoard's files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

_NAME = "metrics.jsonl"


class TrainingLog:
    """Appends one line of figures at a time. A full disk costs lines, never the training."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._board: SummaryWriter | None = None
        self._is_failing = False

    def write(self, facts: Mapping[str, Any], scalars: Mapping[str, float], step: int) -> None:
        """Append ``facts`` and ``scalars`` as one line; ``scalars`` go to TensorBoard too."""
        try:
            self._append(msgspec.json.encode({**facts, **scalars}) + b"\n")
            self._show(scalars, step)
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
        with (self._folder / _NAME).open("ab") as file:
            begin = file.tell()
            try:
                file.write(line)
                file.flush()
            except OSError:
                # Half a line would spoil the next one.
                file.truncate(begin)
                raise

    def _show(self, scalars: Mapping[str, float], step: int) -> None:
        if self._board is None:
            self._board = SummaryWriter(str(self._folder / "tensorboard"))
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)


def last_figures(folder: Path) -> dict[str, float]:
    """Return the last line of a run folder's log; {} when there is none."""
    try:
        lines = (folder / _NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    return msgspec.json.decode(lines[-1], type=dict[str, float]) if lines else {}
