"""The log of training: readable whole, however long a training is, and never a disk full."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learner.training.log import KEPT_FILES, TrainingLog, last_figures

FILE_BYTES = 1000


def lines_of(folder: Path) -> list[dict[str, Any]]:
    ages = [f".{age}" for age in range(KEPT_FILES, 0, -1)]
    paths = [folder / f"metrics.jsonl{age}" for age in (*ages, "")]
    contents = [path.read_bytes() for path in paths if path.exists()]
    return [msgspec.json.decode(line) for line in b"".join(contents).splitlines()]


def write(folder: Path, steps: range) -> None:
    with closing(TrainingLog(folder, file_bytes=FILE_BYTES)) as log:
        for step in steps:
            log.write({"step": step}, {"loss": 0.5}, step)


def test_a_log_has_a_bounded_number_of_files_of_a_bounded_length(tmp_path: Path):
    write(tmp_path, range(500))
    files = sorted(tmp_path.glob("metrics.jsonl*"))
    assert len(files) == KEPT_FILES + 1
    assert all(file.stat().st_size <= FILE_BYTES for file in files)
    steps = [line["step"] for line in lines_of(tmp_path)]
    assert steps == list(range(steps[0], 500)), "the newest, without a gap"
    assert len(steps) > 100


def test_a_resumed_training_goes_on_in_the_same_files(tmp_path: Path):
    write(tmp_path, range(60))
    write(tmp_path, range(60, 120))
    assert [line["step"] for line in lines_of(tmp_path)] == list(range(120))
    assert last_figures(tmp_path) == {"step": 119, "loss": 0.5}


@pytest.mark.parametrize("content", [None, b""])
def test_the_last_figures_may_be_in_a_file_that_was_put_by(tmp_path: Path, content: bytes | None):
    write(tmp_path, range(3))
    # As a kill between putting by and the next line leaves it.
    (tmp_path / "metrics.jsonl").rename(tmp_path / "metrics.jsonl.1")
    if content is not None:
        (tmp_path / "metrics.jsonl").write_bytes(content)
    assert last_figures(tmp_path) == {"step": 2, "loss": 0.5}


def test_a_kill_while_files_are_put_by_costs_no_later_line(tmp_path: Path):
    write(tmp_path, range(100))
    (tmp_path / "metrics.jsonl.1").replace(tmp_path / "metrics.jsonl.2")
    write(tmp_path, range(100, 500))
    assert [line["step"] for line in lines_of(tmp_path)][-100:] == list(range(400, 500))


def test_there_are_no_last_figures_without_a_log(tmp_path: Path):
    assert last_figures(tmp_path) == {}


@pytest.mark.parametrize(("rarely_s", "times"), [(1e9, 1), (0.0, 5)])
def test_what_is_of_each_robot_and_curves_are_written_rarely(
    tmp_path: Path, rarely_s: float, times: int
):
    with closing(TrainingLog(tmp_path, rarely_s=rarely_s)) as log:
        for step in range(5):
            log.write({}, {"loss": 0.5}, step, lambda: {"by_robot": {"a": 1.0}})
    lines = lines_of(tmp_path)
    assert len(lines) == 5
    assert "by_robot" in lines[0]
    assert sum("by_robot" in line for line in lines) == times
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert len(board.Scalars("loss")) == times
