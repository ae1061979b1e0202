from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import pytest

from tests.benchmarks.__main__ import Suite, merge, print_table
from tests.benchmarks.bench_ingestion import Rounds, Row, turns_of
from tests.benchmarks.figures import Figure, Findings
from tests.benchmarks.machine import LoadWatch, describe
from tests.benchmarks.parts import ROOT, Outcome, part_names, run_part, seconds_of
from tests.benchmarks.peers.contract import Count
from tests.benchmarks.peers.systems import OURS, PORTAL
from tests.benchmarks.picture import draw


def findings(value: float) -> Findings:
    figure = Figure(name="ours to theirs", value=value, unit="x", bound=">= 2")
    return Findings(title="One part", settings={"seed": 1}, figures=[figure])


def outcome(part: str, found: Findings | None, error: str = "") -> Outcome:
    return Outcome(part=part, wall_s=1.0, findings=found, error=error)


def test_every_part_gets_a_share_and_the_shares_are_the_whole() -> None:
    names = part_names()

    shares = seconds_of(names, minutes=27)

    assert {"ingestion", "ack", "simulator"} <= shares.keys()
    assert all(seconds > 0 for seconds in shares.values())
    assert sum(shares.values()) == pytest.approx(27 * 60)


def test_the_table_names_missed_bounds_and_failed_parts(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [outcome("good", findings(3.0)), outcome("missed", findings(1.5))]
    outcomes.append(outcome("broken", None, "ended with status 7"))

    suite = merge(outcomes, describe(LoadWatch()))
    print_table(suite)

    printed = capsys.readouterr().out
    assert "1 of 2 bounds are met" in printed
    assert "NOT MET  ours to theirs: 1.5 x, >= 2" in printed
    assert "FAILED   broken ended with status 7" in printed
    assert suite.machine.cores >= 1
    assert suite.machine.packages["numpy"] != "none"


def test_a_part_that_fails_is_reported_with_its_last_words(tmp_path: Path) -> None:
    failed = run_part("of_nothing", 1.0, tmp_path)

    assert failed.findings is None
    assert "status 1" in failed.error
    assert "bench_of_nothing" in failed.error


def test_ratios_are_taken_within_a_round() -> None:
    rounds, row = Rounds(), Row(kind="jpeg", agents=8)
    for turn, (ours, theirs) in enumerate([(200, 100), (30, 10)]):
        rounds.note(row, OURS, turn, Count(episodes=ours, seconds=1.0, server_cpu_s=1.0))
        rounds.note(row, PORTAL, turn, Count(episodes=theirs, seconds=1.0, server_cpu_s=1.0))
    rounds.note(row, OURS, 2, Count(episodes=999, seconds=1.0, server_cpu_s=1.0))

    ratios = rounds.ratios(row, OURS, PORTAL, lambda a, b: a.episodes / b.episodes)

    assert sorted(ratios) == [2.0, 3.0]


def test_all_rounds_of_what_has_bounds_come_first_and_systems_take_turns_in_each() -> None:
    rows = [Row(kind="jpeg", agents=agents) for agents in (1, 8)]

    turns = list(turns_of(2, rows, [OURS, PORTAL]))

    assert [(turn, row.agents) for turn, row, _ in turns[::2]] == [(0, 8), (1, 8), (0, 1), (1, 1)]
    assert [system for _, _, system in turns] == [OURS, PORTAL] * 4


def test_a_picture_is_drawn_of_whatever_was_measured(tmp_path: Path) -> None:
    machine = describe(LoadWatch())
    labels = {"system": "ours", "agents": 8, "kind": "jpeg"}
    rate = Figure(name="jpeg, 8 agents: ours", value=9e3, unit="episodes/s", labels=labels)
    some = {"one": findings(3.0), "two": msgspec.structs.replace(findings(1.0), figures=[rate])}

    for name, found in {"some": some, "nothing": {}}.items():
        draw(machine, found, tmp_path / f"{name}.png")
        assert cv2.imread(str(tmp_path / f"{name}.png")) is not None


def test_a_short_run_of_the_suite_leaves_a_table_json_and_a_picture(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--parts", "ack", "--minutes", "0.02"]

    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "ack, p50: ours to bare + sync" in done.stdout
    assert "2 bounds are met" in done.stdout
    suite = msgspec.json.decode((tmp_path / "benchmarks.json").read_bytes(), type=Suite)
    assert suite.failures == {}
    assert suite.findings["ack"].settings["agents"] == 8
    assert cv2.imread(str(tmp_path / "benchmarks.png")) is not None
