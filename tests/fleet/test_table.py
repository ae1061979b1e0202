"""Tables in terminals that are narrow and wide."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fleet.monitor import robot_table
from fleet.table import plain_table
from fleet.words import duration
from protocol.messages import RobotStatus


def drawn(table: object, width: int) -> str:
    screen = Console(file=io.StringIO(), width=width)
    screen.print(table)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def robot(number: int) -> RobotStatus:
    return RobotStatus(
        robot_id=f"robot-{number:02d}",
        last_seen_s=259_200.0 if number % 2 else 0.3,
        connected=not number % 2,
        release_version=123,
        attempts=12_345,
        successes=6_000,
        recent="SsFf" * 50,
        stored=12_345,
        missing=3,
        tombstoned=number,
        duplicates=0,
        conflicts=2,
        refused=0,
        outbox_episodes=17,
        decision_ms_p50=29.4,
        decision_ms_p99=40.0,
        warnings=[],
        wire_version=2,
        software_version="0.1.0",
    )


@pytest.mark.parametrize("robots", [2, 12, 100])
@pytest.mark.parametrize("width", [80, 160])
def test_no_robot_and_no_heading_is_cut_off(robots: int, width: int):
    fleet = [robot(number) for number in range(robots)]
    lines = drawn(robot_table(fleet, width=width), width).splitlines()
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
    assert [line.split()[0] for line in lines[1 : robots + 1]] == [one.robot_id for one in fleet]
    assert lines[robots + 1].startswith("fleet")
    headings = ["robot", "seen", "release", "attempts", "greedy", "missing", "conflicts"]
    assert lines[0].split()[:6] == headings[:6]
    assert ("version" in lines[0]) == (width == 160)
    assert ("no room for" in lines[robots + 2]) if width == 80 else len(lines) == robots + 2


def test_a_column_that_says_nothing_is_left_out_without_a_word():
    rows = [["a", "0", "5"], ["b", "-", "0"]]
    table = plain_table(["robot", "missing", "stored"], rows, width=80, quiet={"missing", "stored"})
    lines = drawn(table, 80).splitlines()
    assert [line.split() for line in lines] == [["robot", "stored"], ["a", "5"], ["b", "0"]]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.3, "0 s"), (119.0, "119 s"), (120.0, "2 min"), (7200.0, "2 h"), (259_200.0, "3 d")],
)
def test_a_long_time_is_not_counted_in_seconds(seconds: float, words: str):
    assert duration(seconds) == words


def test_a_robot_that_has_been_silent_for_days_is_gone():
    shown = drawn(robot_table([robot(1)], width=160), 160)
    assert "gone 3 d ago" in shown
