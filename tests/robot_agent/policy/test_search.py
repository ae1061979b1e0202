"""The cross-entropy search on scores whose best pose is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import NonFiniteScoreError
from protocol.release_manifest import SearchSettings
from robot_agent.policy.search import (
    SMALLEST_SD,
    GraspScore,
    PoseGaussian,
    SearchResult,
    actions_to,
    prior,
    search,
)
from robot_agent.safety.workspace import Workspace
from tests.robot_agent.simulated_agent import WORKSPACE

HERE = GripperPose(x_m=0.05, y_m=-0.03, z_m=0.12, yaw_rad=1.2)
SPACE = Workspace(WORKSPACE)
WIDTH = np.array([0.03, 0.03, 0.02, 0.6])


def hill(best: GripperPose) -> GraspScore:
    """Return a smooth score with its only top at ``best``, alike for yaws half a turn apart."""

    def score(actions: NDArray[np.float32]) -> NDArray[np.float32]:
        turn = np.arctan2(actions[:, 3], actions[:, 4])
        poses = np.concatenate([actions[:, :3], turn[:, None]], axis=1) + HERE.as_array()
        off = (poses - best.as_array()) / WIDTH
        off[:, 3] = np.sin(poses[:, 3] - best.yaw_rad) / WIDTH[3]
        return np.exp(-0.5 * (off**2).sum(axis=1)).astype(np.float32)

    return score


def run(score: GraspScore, *, seed: int = 0, previous=None, stay=HERE, **changes) -> SearchResult:
    return search(
        score,
        pose=HERE,
        stay=stay,
        start=prior(SPACE, previous),
        workspace=SPACE,
        settings=SearchSettings(**changes),
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("yaw", [0.3, 1.5, -1.5])
def test_it_finds_the_best_pose_of_a_smooth_score(yaw: float):
    best = GripperPose(x_m=-0.06, y_m=0.04, z_m=0.015, yaw_rad=yaw)
    found = [run(hill(best), seed=seed) for seed in range(10)]
    assert np.median([one.predicted_best for one in found]) > 0.9
    assert min(one.predicted_best for one in found) > 0.7
    for one in found:
        assert math.hypot(one.best.x_m - best.x_m, one.best.y_m - best.y_m) < 0.025
        assert abs(math.sin(one.best.yaw_rad - yaw)) < 0.5


def test_more_iterations_come_closer():
    best = GripperPose(x_m=-0.06, y_m=0.04, z_m=0.015, yaw_rad=0.3)
    score = hill(best)
    few = np.mean([run(score, seed=s, iterations=1).predicted_best for s in range(10)])
    many = np.mean([run(score, seed=s, iterations=6).predicted_best for s in range(10)])
    assert few < 0.9 < 0.97 < many


def test_a_warm_start_around_the_previous_best_comes_closer():
    best = GripperPose(x_m=-0.06, y_m=0.04, z_m=0.015, yaw_rad=0.3)
    settings = {"samples": 16, "elites": 4, "iterations": 1}
    cold = [run(hill(best), seed=s, **settings).predicted_best for s in range(20)]
    warm = [run(hill(best), seed=s, previous=best, **settings).predicted_best for s in range(20)]
    assert np.mean(warm) > np.mean(cold) + 0.1


def test_every_candidate_lies_in_the_workspace_also_when_the_best_is_outside():
    outside = GripperPose(x_m=0.5, y_m=0.0, z_m=-0.2, yaw_rad=0.0)
    seen: list[NDArray[np.float32]] = []

    def score(actions: NDArray[np.float32]) -> NDArray[np.float32]:
        turn = np.arctan2(actions[:, 3], actions[:, 4])
        seen.append(actions[:, :3] + HERE.as_array()[:3])
        assert np.isfinite(turn).all()
        return 1 / (1 + np.linalg.norm(seen[-1] - outside.as_array()[:3], axis=1))

    found = run(score, previous=outside)

    for positions in seen:
        assert (positions >= SPACE.low[:3] - 1e-6).all()
        assert (positions <= SPACE.high[:3] + 1e-6).all()
    assert found.best.x_m == pytest.approx(0.105)
    assert found.best.z_m == pytest.approx(0.0, abs=1e-3)


def test_staying_is_scored_beside_the_samples_and_is_not_among_them():
    stay = GripperPose(x_m=-0.06, y_m=0.04, z_m=0.015, yaw_rad=0.3)
    counts: list[int] = []

    def counted(actions: NDArray[np.float32]) -> NDArray[np.float32]:
        counts.append(len(actions))
        return hill(stay)(actions)

    found = run(counted, stay=stay)

    samples = SearchSettings().samples
    assert counts == [samples + 1, samples, samples]
    assert found.predicted_stay == pytest.approx(1.0, abs=1e-5)
    assert found.predicted_best >= found.predicted_stay
    assert found.best != stay


def test_elites_come_best_first():
    best = GripperPose(x_m=0.0, y_m=0.0, z_m=0.01, yaw_rad=0.0)
    found = run(hill(best), elites=8)
    scores = hill(best)(actions_to(found.elites, HERE.as_array()))
    assert len(scores) == 8
    assert (np.diff(scores) <= 1e-6).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("iteration", [0, 2])
def test_a_score_that_is_not_finite_ends_the_search_in_words(bad: float, iteration: int):
    calls = []

    def score(actions: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = np.full(len(actions), 0.5, np.float32)
        if len(calls) == iteration:
            scores[3:5] = bad
        calls.append(1)
        return scores

    with pytest.raises(NonFiniteScoreError, match=r"^2 of 4\d predicted successes are not finite"):
        run(score)


def test_the_fit_averages_yaws_across_half_a_turn():
    elites = np.zeros((4, 4), np.float32)
    elites[:, 3] = [1.5, -1.5, 1.45, -1.45]  # within 0.25 rad of each other, modulo pi
    fitted = PoseGaussian.fit(elites, SMALLEST_SD)
    assert abs(math.cos(float(fitted.mean[3]))) < 0.1
    assert fitted.sd[3] < 0.15
