"""What `fleet evaluate` refuses, and how it says how far it has come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fleet.commands.output import progress_lines
from fleet.evaluation import EvaluationPlan, evaluate
from fleet.run_folder import RunFolder
from protocol.errors import ConfigurationError, RejectedReleaseError
from protocol.security import load_release_secret
from tests.delivery_site import ROOT
from tests.releases import make_release
from tests.waiting import PATIENCE_S, wait_until


@pytest.mark.parametrize(
    "wrong",
    [
        {"greedy": -5},
        {"random": -1},
        {"unseen": -1},
        {"greedy": 0, "random": 0, "unseen": 0},
        {"max_moves": 0},
        {"max_moves": -1},
        {"max_moves": 101},
        {"greedy": 200_001},
        {"seed": -1},
        {"seed": 10**9},
    ],
    ids=str,
)
def test_a_plan_that_measures_nothing_or_never_ends_is_refused(wrong: dict[str, int]):
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


@pytest.mark.parametrize("never_done", [False, True])
def test_ctrl_c_while_workers_load_ends_the_evaluation_without_a_traceback(
    folder: RunFolder, tmp_path: Path, never_done: bool
):
    """Whatever the workers are at: they are not waited for."""
    release = tmp_path / "release.gfrel"
    key = load_release_secret(folder.keys / "release.secret")
    release.write_bytes(make_release(key=key, size_px=64))
    arguments = ["--run", str(folder.root), "--release", str(release), "--attempts", "2"]
    evaluating = subprocess.Popen(
        [sys.executable, "-m", "fleet", "evaluate", *arguments, "--unseen-attempts", "1"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    wait_until(lambda: is_loading(evaluating.pid), "a worker loads its libraries")
    if never_done:
        for worker in workers(evaluating.pid):
            worker.send_signal(signal.SIGSTOP)
    os.killpg(evaluating.pid, signal.SIGINT)
    try:
        _, stderr = evaluating.communicate(timeout=PATIENCE_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(evaluating.pid, signal.SIGKILL)
    assert evaluating.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert not folder.evaluation.exists()


def is_loading(parent: int) -> bool:
    """Say whether a worker has begun to load what it imports first, of which nothing is ready."""
    return any("numpy" in file.path for worker in workers(parent) for file in worker.memory_maps())


def workers(parent: int) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(parent).children()
        if "multiprocessing.spawn" in " ".join(child.cmdline())
    ]
