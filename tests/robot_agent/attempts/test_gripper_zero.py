"""The gripper's zero: what an empty gripper reads, against its first reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.episode import GraspOutcome, Label
from robot_agent.attempts.gripper_zero import GripperZero


def attempt(opening_m: float, label: Label = Label.FAILURE) -> GraspOutcome:
    return GraspOutcome(
        label=label,
        opening_after_close_m=opening_m,
        opening_after_lift_m=opening_m,
        opening_says_held=label == Label.SUCCESS,
        drop_test_says_held=label == Label.SUCCESS,
        drop_test_score=0.0,
    )


def test_a_gripper_that_reads_what_it_read_first_has_not_drifted(tmp_path: Path):
    zero = GripperZero(tmp_path, 0.0002)
    for _ in range(20):
        zero.add(attempt(0.0002))
    assert zero.drift_m == 0.0


def test_pads_that_wear_while_it_works_are_noticed(tmp_path: Path):
    zero = GripperZero(tmp_path, 0.0002)
    for _ in range(20):
        zero.add(attempt(0.0011))
    assert zero.drift_m == pytest.approx(0.0009)


def test_what_is_held_says_nothing_of_the_zero(tmp_path: Path):
    zero = GripperZero(tmp_path, 0.0)
    for _ in range(20):
        zero.add(attempt(0.012, Label.SUCCESS))
        zero.add(attempt(0.0, Label.ABORTED))
    assert zero.drift_m == 0.0


def test_a_thin_thing_now_and_then_is_not_taken_for_drift(tmp_path: Path):
    zero = GripperZero(tmp_path, 0.0)
    for number in range(20):
        zero.add(attempt(0.003 if number % 4 == 0 else 0.0))
    assert zero.drift_m == 0.0


def test_the_first_start_is_what_later_ones_are_compared_with(tmp_path: Path):
    GripperZero(tmp_path, 0.0002)
    assert GripperZero(tmp_path, 0.0010).drift_m == pytest.approx(0.0008)


@pytest.mark.parametrize("content", ["", "{}", '{"closed_zero_m": "wide"}', "[1]"])
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path, content: str):
    (tmp_path / "gripper-zero.json").write_text(content)
    assert GripperZero(tmp_path, 0.0002).drift_m == 0.0
    assert GripperZero(tmp_path, 0.0003).drift_m == pytest.approx(0.0001)
