"""What is made of stored attempts, and what is left of it after a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from learner.monitoring import drift_watch
from learner.monitoring.attempt_facts import AttemptFacts
from learner.monitoring.drift_watch import DriftWatch
from protocol.episode import Label, Mode


def facts(*, success: bool, predicted: float | None = 0.8, release: int = 1) -> AttemptFacts:
    return AttemptFacts(
        task="bin",
        label=Label.SUCCESS if success else Label.FAILURE,
        mode=Mode.GREEDY,
        release_version=release,
        predicted=predicted,
        tests_disagree=False,
        decisions_ms=[],
        record_bytes=1,
    )


def note(watch: DriftWatch, success: dict[str, float], rounds: int, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    for _ in range(rounds):
        watch.note(
            (name, facts(success=random.random() < usual)) for name, usual in success.items()
        )


def test_a_robot_is_alarmed_by_both_tests_when_it_fails_where_success_was_predicted(
    caplog: pytest.LogCaptureFixture,
):
    watch = DriftWatch()
    note(watch, {"a": 0.9, "b": 0.9}, 600)
    watch.look()
    note(watch, {"a": 0.9, "b": 0.5}, 100)
    watch.look()
    evidence = watch.evidence()
    assert evidence["b"].success_detected
    assert evidence["b"].calibration_detected
    assert not evidence["a"].success_detected
    assert not evidence["a"].calibration_detected
    for found in (watch.success("b"), watch.calibration("b")):
        assert found is not None
        assert found.detected
        assert found.attempts == 700
        assert found.now < 0.7 < found.before
    assert "b: its success left its past about" in caplog.text
    assert "a:" not in caplog.text


def test_an_attempt_without_a_prediction_tells_of_success_alone_and_an_aborted_one_of_nothing():
    watch = DriftWatch()
    watch.note([("a", facts(success=True, predicted=None))])
    aborted = msgspec.structs.replace(facts(success=False), label=Label.ABORTED)
    watch.note([("b", aborted)])
    watch.look()
    assert watch.success("a") is not None
    assert watch.calibration("a") is None
    assert watch.success("b") is None


def test_a_watch_goes_on_where_the_last_one_was_stopped(tmp_path: Path):
    first = DriftWatch(tmp_path / "drift.npz")
    first.start()
    note(first, {"a": 0.9, "b": 0.6}, 50)
    first.stop()
    second = DriftWatch(tmp_path / "drift.npz")
    for name in ("a", "b"):
        assert second.success(name) == first.success(name)
        assert second.calibration(name) == first.calibration(name)
    for watch in (first, second):
        note(watch, {"b": 0.6, "c": 0.9}, 20, seed=1)
        watch.look()
    assert second.evidence() == first.evidence()


@pytest.mark.parametrize("damage", ["cut", "empty", "other robots", "other values"])
def test_a_file_that_is_no_good_is_left_aside(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
):
    file = tmp_path / "drift.npz"
    first = DriftWatch(file)
    first.start()
    note(first, {"a": 0.9}, 5)
    first.stop()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        with np.load(file) as kept:
            arrays = dict(kept)
        arrays |= {"names": np.array(["a", "b"])} if damage == "other robots" else {}
        arrays |= {"grid": arrays["grid"] + 1} if damage == "other values" else {}
        np.savez(file, **arrays)
    assert DriftWatch(file).evidence() == {}
    assert "robots' past begins anew" in caplog.text


def test_a_flood_is_left_out_and_takes_no_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drift_watch, "MOST_WAITING", 10)
    watch = DriftWatch()
    note(watch, {"a": 0.9}, 25)
    watch.look()
    found = watch.success("a")
    assert found is not None
    assert found.attempts == 10


def test_a_robot_that_floods_the_watch_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(drift_watch, "MOST_WAITING", 100)
    watch = DriftWatch()
    watch.note([("flood", facts(success=True))] * 500)
    note(watch, {"a": 0.9, "b": 0.6}, 25)
    watch.note([("flood", facts(success=True))] * 500)
    watch.look()
    found = {name: watch.success(name) for name in ("a", "b", "flood")}
    assert {name: drift and drift.attempts for name, drift in found.items()} == {
        "a": 25,
        "b": 25,
        "flood": 100,
    }
    watch.start()
    watch.stop()
    assert "900 attempts came too fast to be looked at, of 1 robots; 900 of flood" in caplog.text


def test_a_look_without_time_leaves_attempts_for_the_next_one():
    watch = DriftWatch()
    note(watch, {"a": 0.9}, 5)
    watch.look(budget_s=0.0)
    assert watch.success("a") is None
    watch.look()
    found = watch.success("a")
    assert found is not None
    assert found.attempts == 5
