"""What a demo refuses before anything starts."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from fleet.demo import DemoPlan, run_demo
from fleet.demo_lock import LOCK_NAME, only_demo_in
from fleet.run_folder import FleetRecord, RunFolder
from protocol.errors import ConfigurationError
from tests.integration.fleet_runs import demo_arguments
from tests.waiting import wait_until


def test_a_folder_that_was_begun_with_another_seed_is_left_as_it_is(tmp_path: Path):
    record = FleetRecord(seed=3)
    record.open_session()
    record.write(tmp_path / "fleet.json")
    plan = DemoPlan(robots=1, minutes=1.0, seed=4, out=tmp_path, evaluation=None)
    with pytest.raises(ConfigurationError, match="--seed 3"):
        run_demo(plan, Console(quiet=True))
    assert {path.name for path in tmp_path.iterdir()} == {LOCK_NAME, "fleet.json"}


def test_a_folder_keeps_its_seed_also_when_its_first_session_never_began(folder: RunFolder):
    plan = DemoPlan(robots=1, minutes=1.0, seed=4, out=folder.root, evaluation=None)
    with pytest.raises(ConfigurationError, match="--seed 0, and its robots were drawn from that"):
        run_demo(plan, Console(quiet=True))


def test_a_folder_in_which_a_demo_runs_is_left_as_it_is(folder: RunFolder):
    before = contents(folder.root)
    plan = DemoPlan(robots=1, minutes=1.0, seed=0, out=folder.root, evaluation=None)
    with (
        only_demo_in(folder.root),
        pytest.raises(ConfigurationError, match="a demo runs in this folder"),
    ):
        run_demo(plan, Console(quiet=True))
    assert contents(folder.root) == before | {folder.root / LOCK_NAME: b""}


def test_a_demo_that_is_interrupted_twice_says_that_what_was_stored_is_kept(tmp_path: Path):
    out = tmp_path / "run"
    command = demo_arguments(out, minutes=10, robots=1, learner=None)
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: learners_of(demo) != [], "the learner starts")
        learners_of(demo)[0].suspend()  # so that the demo waits for its end
        demo.send_signal(signal.SIGINT)
        said = ""
        while "ending the learner" not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 130
    assert rest.endswith("ended at once; what was stored is kept\n")


def learners_of(demo: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(demo.pid).children()
    return [one for one in children if one.cmdline()[1:3] == ["-m", "learner"]]


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
