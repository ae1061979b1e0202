"""What `fleet evaluate` refuses, and how it says how far it has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.commands.output import progress_lines
from fleet.evaluation import EvaluationPlan, evaluate
from fleet.run_folder import RunFolder
from protocol.errors import ConfigurationError, RejectedReleaseError


@pytest.mark.parametrize(
    "wrong",
    [
        {"greedy": -5},
        {"random": -1},
        {"unseen": -1},
        {"greedy": 0, "random": 0, "unseen": 0},
        {"max_moves": 0},
        {"max_moves": -1},
        {"seed": -1},
        {"seed": 10**9},
    ],
    ids=str,
)
def test_a_plan_that_measures_nothing_is_refused(wrong: dict[str, int]):
    with pytest.raises(ConfigurationError, match=r"evaluation: .*-?\d"):
        EvaluationPlan(**wrong)


def test_a_release_that_is_not_there_or_is_a_folder_is_named(folder: RunFolder, tmp_path: Path):
    for path in (tmp_path / "nix.gfrel", tmp_path):
        with pytest.raises(ConfigurationError, match=rf"^{path}: cannot be read: "):
            evaluate(folder, path, EvaluationPlan())


def test_a_file_that_is_no_release_is_named(folder: RunFolder, tmp_path: Path):
    path = tmp_path / "short.gfrel"
    path.touch()
    with pytest.raises(RejectedReleaseError, match=rf"^{path}: release: 0 bytes is outside"):
        evaluate(folder, path, EvaluationPlan())
    assert not folder.evaluation.exists()


def test_progress_is_a_line_on_stderr_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
):
    with progress_lines("evaluating release-3") as show:
        show(20, 700)
        show(40, 700)
    assert capsys.readouterr() == ("", "evaluating release-3: 20 of 700 attempts\n")
