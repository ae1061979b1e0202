"""The stochastic search that servoing rests on: cross-entropy method over gripper poses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose
from protocol.errors import NonFiniteScoreError
from protocol.release_manifest import SearchSettings
from robot_agent.safety.workspace import Workspace, pose_from

# N candidates, E elites, 4 pose values (x, y, z, yaw), 5 action values

GraspScore = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps actions float32[N, 5] to success probabilities float32[N]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseGaussian:
    """An axis-aligned normal distribution over final poses: metres, metres, metres, radians."""

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]

    def sample(self, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Return poses float32[count, 4]."""
        noise = rng.standard_normal((count, 4), dtype=np.float32)
        return self.mean + noise * self.sd

    @classmethod
    def fit(cls, elites: NDArray[np.float32], floor: NDArray[np.float32]) -> PoseGaussian:
        """Fit to elites[E, 4]; yaw is averaged modulo pi around the first one."""
        unwrapped = elites.copy()
        turn = elites[:, 3] - elites[0, 3]
        unwrapped[:, 3] = elites[0, 3] + (turn + math.pi / 2) % math.pi - math.pi / 2
        return cls(mean=unwrapped.mean(axis=0), sd=np.maximum(unwrapped.std(axis=0), floor))


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """What the search found."""

    best: GripperPose
    predicted_best: float
    predicted_stay: float
    elites: NDArray[np.float32]
    """float32[E, 4]: the last iteration's best poses, best first."""


SMALLEST_SD = np.array([0.002, 0.002, 0.001, 0.03], np.float32)
"""Keeps the distribution from collapsing before the last iteration."""
WARM_SD = np.array([0.03, 0.03, 0.006, 0.5], np.float32)
"""Spread around the previous decision's best pose."""


def prior(workspace: Workspace, previous: GripperPose | None) -> PoseGaussian:
    """Return where to look first: around the previous best, or else over the whole bin."""
    if previous is not None:
        return PoseGaussian(mean=previous.as_array(), sd=WARM_SD)
    centre = (workspace.low + workspace.high) / 2
    spread = (workspace.high - workspace.low) / 3
    centre[2], spread[2] = workspace.low[2] + 0.01, 0.008
    return PoseGaussian(mean=centre.astype(np.float32), sd=spread.astype(np.float32))


def search(
    score: GraspScore,
    *,
    pose: GripperPose,
    stay: GripperPose,
    start: PoseGaussian,
    workspace: Workspace,
    settings: SearchSettings,
    rng: np.random.Generator,
) -> SearchResult:
    """Return the final pose with the highest predicted grasp success.

    Cross-entropy method over a Gaussian (Levine et al. 2016, section IV-B), limits applied to
    the samples.

    Args:
        score: the Q-function on the current pictures.
        pose: where the hand is; actions are displacements from here.
        stay: the pose that closing now would close at; scored along with the first samples.
        start: distribution of the first samples.
        workspace: limits.
        settings: samples, elites, iterations.
        rng: the source of the samples.

    Raises:
        NonFiniteScoreError: the network returned NaN or infinity.
    """
    here = pose.as_array()
    distribution = start
    best, best_score, stay_score = stay.as_array(), -1.0, 0.0
    for iteration in range(settings.iterations):
        poses = workspace.clamp(distribution.sample(rng, settings.samples))
        if iteration == 0:
            poses = np.concatenate([stay.as_array()[None], poses])
        scores = score(actions_to(poses, here))
        if not np.isfinite(scores).all():
            raise NonFiniteScoreError(
                f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} predicted successes "
                "are not finite"
            )
        if iteration == 0:
            stay_score = float(scores[0])
            poses, scores = poses[1:], scores[1:]
        order = np.argsort(-scores)[: settings.elites]
        elites = poses[order]
        if float(scores[order[0]]) > best_score:
            best, best_score = elites[0], float(scores[order[0]])
        distribution = PoseGaussian.fit(elites, SMALLEST_SD)
    return SearchResult(
        best=pose_from(best),
        predicted_best=max(best_score, stay_score),
        predicted_stay=stay_score,
        elites=elites,
    )


def actions_to(poses: NDArray[np.float32], here: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return actions float32[N, 5] that lead from here[4] to poses[N, 4]."""
    turn = poses[:, 3] - here[3]
    return np.concatenate(
        [poses[:, :3] - here[:3], np.sin(turn)[:, None], np.cos(turn)[:, None]], axis=1
    ).astype(np.float32)
