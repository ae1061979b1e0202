import json
from pathlib import Path

import msgspec
import pytest

from fleet.attempts import Session
from fleet.camera_description import HandEyeErrors
from fleet.episode_counts import RobotCounts
from fleet.evaluation_result import EvaluatedAttempt, Evaluation, UnseenCamera
from fleet.report import Strip, write_report
from fleet.run_folder import FleetRecord
from fleet.summary import RunFacts, summarise
from protocol.episode import Label, Mode
from tests.fleet.attempts import START_NS, make_attempt

REQUIRED = {
    "seed",
    "robots",
    "wall_s",
    "attempts",
    "random_success",
    "heldout_success",
    "heldout_attempts",
    "heldout_ci95",
    "episodes_sent",
    "episodes_stored",
    "episodes_missing",
    "episodes_duplicated",
    "releases_published",
    "release_latency_ms",
    "decision_ms",
    "time_to",
    "curve",
}


def evaluated(robot="robot-01", *, success=True, policy="greedy", unseen=False, truth=None):
    return EvaluatedAttempt(
        robot=robot,
        policy=policy,
        unseen_camera=unseen,
        scene_seed=1,
        scene_index=0,
        label=Label.SUCCESS if success else Label.FAILURE,
        reference_success=success if truth is None else truth,
        object_kind="spoon",
        moves=3,
        tests_disagree=False,
        decision_ms=[4.0],
    )


def an_evaluation() -> Evaluation:
    greedy = [evaluated(f"robot-0{1 + i % 2}", success=i % 10 != 0) for i in range(40)]
    random = [evaluated(f"robot-0{1 + i % 2}", success=i == 0, policy="random") for i in range(20)]
    unseen = [evaluated("unseen-camera", success=i < 5, unseen=True) for i in range(10)]
    lie = [evaluated(success=True, truth=False)]
    return Evaluation(
        release_version=7,
        release_digest="ab" * 32,
        network="patch",
        max_moves=10,
        wall_s=1.0,
        objects="held-out",
        attempts=greedy + random + unseen + lie,
        unseen_camera=UnseenCamera(
            described_error_mm=20.0, found_error_mm=2.0, residual=0.1, trusted=True
        ),
    )


def counts(stored: int) -> RobotCounts:
    return RobotCounts(
        written=stored,
        sent=stored,
        waiting=0,
        stored=stored,
        missing=0,
        duplicated=0,
        tombstoned=0,
        conflicts=0,
    )


@pytest.fixture
def facts() -> RunFacts:
    attempts = [
        make_attempt(i, robot_id=f"robot-0{1 + i % 2}", mode=Mode.RANDOM, success=i % 5 == 0)
        for i in range(100)
    ]
    attempts += [make_attempt(100 + i, success=i % 5 != 0) for i in range(100)]
    attempts += [make_attempt(205, label=Label.ABORTED), make_attempt(206, reference_success=False)]
    return RunFacts(
        record=FleetRecord(
            seed=3,
            sessions=[Session(started_at_ns=START_NS, ended_at_ns=START_NS + 210 * 10**9)],
            wall_s=300.0,
            release_latency_ms=[100.0, 300.0],
            releases_published=2,
        ),
        attempts=attempts,
        counts={"robot-01": counts(152), "robot-02": counts(50)},
        hand_eye={"robot-01": HandEyeErrors(described_mm=20.0, found_mm=2.0, refined_mm=1.0)},
        evaluation=an_evaluation(),
        environment={"commit": None, "machine": {"cores": 2}},
    )


def test_summary_holds_every_promised_key_as_plain_json(facts):
    table = json.loads(msgspec.json.encode(summarise(facts)))
    assert set(table) >= REQUIRED
    assert set(table["release_latency_ms"]) == set(table["decision_ms"]) == {"p50", "p99"}
    assert set(table["time_to"]) == {"0.5", "0.7", "0.8", "0.9"}
    assert {"time_s", "attempts", "success", "ci95"} <= set(table["curve"][-1])


def test_unseen_camera_is_reported_apart_from_the_held_out_total(facts):
    summary = summarise(facts)
    assert summary.heldout_attempts == 41
    assert summary.heldout_success == pytest.approx(37 / 41, abs=1e-4)
    assert summary.heldout_unseen_camera.attempts == 10
    assert summary.random_success == pytest.approx(1 / 20)


def test_false_successes_are_counted_in_training_and_in_evaluation(facts):
    summary = summarise(facts)
    assert summary.training_truth.false_successes == 1
    assert summary.heldout_truth.false_successes == 1


def test_aborted_attempts_count_as_episodes_but_not_as_attempts(facts):
    summary = summarise(facts)
    assert summary.attempts == 201
    assert summary.episodes_stored == 202
    assert summary.per_robot["robot-01"].aborted == 1


def test_what_was_not_measured_is_null_and_not_guessed(facts):
    bare = RunFacts(
        record=FleetRecord(),
        attempts=[],
        counts={},
        hand_eye={},
        evaluation=None,
        environment={},
    )
    summary = summarise(bare)
    assert summary.heldout_success is None
    assert summary.heldout_ci95 is None
    assert summary.random_success is None
    assert summary.decision_ms == {"p50": None, "p99": None}
    assert summary.episodes_per_s is None
    assert summary.curve == []


def test_report_is_one_file_that_loads_nothing_from_elsewhere(facts, tmp_path: Path):
    picture = tmp_path / "curve.png"
    picture.write_bytes(b"\x89PNG not really")
    page = tmp_path / "report.html"
    strips = [Strip(title="A <success>", path=picture)]
    write_report(summarise(facts), page, curve=picture, strips=strips)
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 2
    assert "http" not in text
    assert "<success>" not in text
    assert "A &lt;success&gt;" in text
    assert "90.2%" in text


def test_report_can_be_written_of_a_run_in_which_nothing_happened(tmp_path: Path):
    nothing = RunFacts(
        record=FleetRecord(), attempts=[], counts={}, hand_eye={}, evaluation=None, environment={}
    )
    page = tmp_path / "report.html"
    write_report(summarise(nothing), page, curve=None, strips=[])
    assert "simulated robots" in page.read_text()
