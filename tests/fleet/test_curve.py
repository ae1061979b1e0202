from pathlib import Path

import cv2
import pytest

from fleet.attempts import RunningTime, Session, in_order
from fleet.curve import WINDOW, learning_curve, releases_in_use, thinned, time_to_marks
from fleet.curve_picture import CurveData, draw_learning_curve
from fleet.proportion import Proportion
from protocol.episode import Label, Mode
from tests.fleet.attempts import START_NS, make_attempt


def session(start_s: float, end_s: float) -> Session:
    return Session(
        started_at_ns=START_NS + int(start_s * 1e9), ended_at_ns=START_NS + int(end_s * 1e9)
    )


def a_fleet_that_learns():
    """A minute at random, one success in five; then greedy, failing less and less."""
    random = [
        make_attempt(i * 0.2, success=i % 5 == 0, mode=Mode.RANDOM, release_version=0)
        for i in range(300)
    ]
    greedy = [
        make_attempt(60 + i * 0.2, success=i % 10 < 3 + i // 100, release_version=1 + i // 50)
        for i in range(700)
    ]
    return random + greedy


@pytest.fixture
def rows():
    return learning_curve(a_fleet_that_learns(), RunningTime([session(0, 200)]))


def test_curve_shows_the_random_policy_until_the_network_takes_over(rows):
    assert rows[299].mode == Mode.RANDOM
    assert rows[299].rolling == Proportion(successes=20, attempts=WINDOW)
    assert rows[-1].mode == Mode.GREEDY
    assert rows[-1].rolling.rate == pytest.approx(0.9)
    assert [row.attempts for row in rows] == list(range(1, 1001))


def test_marks_are_passed_in_order_and_only_by_full_greedy_windows(rows):
    times = time_to_marks(rows)
    assert list(times) == ["0.5", "0.7", "0.8", "0.9"]
    assert sorted(times.values()) == list(times.values())
    assert times["0.5"] > 60 + WINDOW * 0.2


def test_a_mark_that_was_never_reached_is_null():
    rows = learning_curve(
        [make_attempt(i, success=i % 2 == 0) for i in range(200)], RunningTime([session(0, 300)])
    )
    assert time_to_marks(rows) == {"0.5": 99.0, "0.7": None, "0.8": None, "0.9": None}


def test_a_lucky_start_passes_no_mark():
    rows = learning_curve(
        [make_attempt(i) for i in range(WINDOW - 1)], RunningTime([session(0, 300)])
    )
    assert set(time_to_marks(rows).values()) == {None}


def test_time_between_two_sessions_is_left_out():
    clock = RunningTime([session(0, 100), session(1000, 1060)])
    moments = (-5, 50, 500, 1000, 1030, 2000)
    seconds = [clock.at(START_NS + int(moment * 1e9)) for moment in moments]
    assert seconds == pytest.approx([0, 50, 100, 100, 130, 160])
    assert clock.total_s == pytest.approx(160)


def test_thinning_keeps_the_last_row_and_few_others(rows):
    few = thinned(rows)
    assert len(few) <= 240
    assert few[-1] is rows[-1]
    assert thinned([]) == []


def test_releases_are_noted_when_they_are_first_used(rows):
    versions = [version for _, version in releases_in_use(rows)]
    assert versions == list(range(1, 15))


def test_aborted_attempts_are_no_part_of_the_curve():
    attempts = [make_attempt(2), make_attempt(1, label=Label.ABORTED), make_attempt(0)]
    assert [one.finished_at_ns - START_NS for one in in_order(attempts)] == [0, 2_000_000_000]


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_curve_can_be_drawn_however_short_the_run_was(tmp_path: Path, count):
    rows = learning_curve(a_fleet_that_learns()[:count], RunningTime([session(0, 200)]))
    path = tmp_path / "curve.png"
    held_out = Proportion(successes=340, attempts=400) if count else None
    draw_learning_curve(
        CurveData(
            title="a test",
            rows=rows,
            random=Proportion(successes=count // 5, attempts=count),
            held_out=held_out,
        ),
        path,
    )
    assert cv2.imread(str(path)).shape[1] == 1440
