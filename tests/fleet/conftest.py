from __future__ import annotations

from pathlib import Path

import pytest

from fleet.fleet_files import FleetPlan, prepare_run_folder
from fleet.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder of two robots, before their first attempt."""
    made = RunFolder(root=tmp_path / "run")
    prepare_run_folder(made, FleetPlan(robots=2, seed=0))
    return made


@pytest.fixture(autouse=True)
def _no_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands print as into a pipe, whatever width the test runner's terminal has."""
    monkeypatch.delenv("COLUMNS", raising=False)
