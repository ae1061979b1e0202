"""What a demo refuses before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from fleet.demo import DemoPlan, run_demo
from fleet.demo_lock import LOCK_NAME, only_demo_in
from fleet.run_folder import FleetRecord, RunFolder
from protocol.errors import ConfigurationError


def test_a_folder_that_was_begun_with_another_seed_is_left_as_it_is(tmp_path: Path):
    record = FleetRecord(seed=3)
    record.open_session()
    record.write(tmp_path / "fleet.json")
    plan = DemoPlan(robots=1, minutes=1.0, seed=4, out=tmp_path, evaluation=None)
    with pytest.raises(ConfigurationError, match="--seed 3"):
        run_demo(plan, Console(quiet=True))
    assert {path.name for path in tmp_path.iterdir()} == {LOCK_NAME, "fleet.json"}


def test_a_folder_in_which_a_demo_runs_is_left_as_it_is(folder: RunFolder):
    before = contents(folder.root)
    plan = DemoPlan(robots=1, minutes=1.0, seed=0, out=folder.root, evaluation=None)
    with (
        only_demo_in(folder.root),
        pytest.raises(ConfigurationError, match="a demo runs in this folder"),
    ):
        run_demo(plan, Console(quiet=True))
    assert contents(folder.root) == before | {folder.root / LOCK_NAME: b""}


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
