"""One servoing decision: close, lift or move (Levine et al. 2016, section IV-B)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.episode import GripperPose, ImageArray, Mode, Observation, StepKind
from robot_agent.policy.q_function import QFunction
from robot_agent.policy.search import prior, search
from robot_agent.safety.workspace import Workspace, pose_from

EXPLORATION_SD = np.array([0.008, 0.008, 0.004, 0.25], np.float32)
"""Noise added to an elite in explore mode: metres, metres, metres, radians."""
LOWEST_RANDOM_M, HIGHEST_RANDOM_M = 0.001, 0.02
"""Most random attempts end this far above the workspace's lowest height."""
SHARE_IN_THE_AIR = 0.05
"""The other random attempts end anywhere, so that closing in the air is known to fail."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do next, and what the network thought of it."""

    kind: StepKind
    wished: GripperPose
    predicted_best: float | None = None
    predicted_stay: float | None = None
    decision_ms: float = 0.0


class RandomServo:
    """Random waypoints, then close: how the fleet gets its first experience."""

    def __init__(self, workspace: Workspace, rng: np.random.Generator, max_moves: int) -> None:
        self._workspace = workspace
        self._rng = rng
        self._moves_left = int(rng.integers(1, max_moves + 1))

    def decide(self, observation: Observation, commanded: GripperPose) -> Decision:
        """Return the next waypoint, or closing where the hand was last sent."""
        del observation
        if self._moves_left == 0:
            return Decision(kind=StepKind.CLOSE, wished=commanded)
        self._moves_left -= 1
        return Decision(kind=StepKind.MOVE, wished=pose_from(self._waypoint()))

    def _waypoint(self) -> NDArray[np.float32]:
        low, high = self._workspace.low, self._workspace.high
        waypoint = self._rng.uniform(low, high).astype(np.float32)
        if self._moves_left == 0 and self._rng.random() > SHARE_IN_THE_AIR:
            waypoint[2] = low[2] + self._rng.uniform(LOWEST_RANDOM_M, HIGHEST_RANDOM_M)
        return waypoint


class SearchServo:
    """Closed-loop servoing by stochastic search over the Q-function."""

    def __init__(
        self,
        q_function: QFunction,
        *,
        first_image: ImageArray,
        workspace: Workspace,
        rng: np.random.Generator,
        max_moves: int,
        explore: bool,
    ) -> None:
        self._q_function = q_function
        self._first_image = first_image
        self._workspace = workspace
        self._rng = rng
        self._moves_left = max_moves
        self._explore = explore
        self._previous: GripperPose | None = None

    def decide(self, observation: Observation, commanded: GripperPose) -> Decision:
        """Search around the previous best and apply the close and lift rules.

        Args:
            observation: what the robot sees now.
            commanded: where the hand was last sent; closing now would close there.
        """
        began = time.perf_counter()
        settings = self._q_function.search
        features = self._q_function.encode(self._first_image, observation.image)
        found = search(
            lambda actions: self._q_function.score(features, observation.pose, actions),
            pose=observation.pose,
            stay=commanded,
            start=prior(self._workspace, self._previous),
            workspace=self._workspace,
            settings=settings,
            rng=self._rng,
        )
        decision_ms = (time.perf_counter() - began) * 1e3
        ratio = found.predicted_stay / max(found.predicted_best, 1e-9)
        may_move = self._moves_left > 0
        if not may_move or (self._previous is not None and ratio >= settings.close_ratio):
            kind, wished = StepKind.CLOSE, commanded
        elif self._previous is not None and self._moves_left > 1 and ratio < settings.lift_ratio:
            kind, wished = StepKind.LIFT, _raised(commanded, settings.lift_m)
            self._previous = None
        else:
            kind, wished = StepKind.MOVE, self._target(found.best, found.elites)
            self._previous = wished
        self._moves_left -= 1
        return Decision(
            kind=kind,
            wished=wished,
            predicted_best=found.predicted_best,
            predicted_stay=found.predicted_stay,
            decision_ms=decision_ms,
        )

    def _target(self, best: GripperPose, elites: NDArray[np.float32]) -> GripperPose:
        if not self._explore:
            return best
        elite = elites[self._rng.integers(len(elites))]
        noise = self._rng.standard_normal(4).astype(np.float32) * EXPLORATION_SD
        return pose_from(self._workspace.clamp(elite + noise))


def _raised(pose: GripperPose, lift_m: float) -> GripperPose:
    return GripperPose(x_m=pose.x_m, y_m=pose.y_m, z_m=pose.z_m + lift_m, yaw_rad=pose.yaw_rad)


Servo = RandomServo | SearchServo
"""How an attempt chooses its motions."""


def make_servo(
    mode: Mode,
    q_function: QFunction | None,
    *,
    first_image: ImageArray,
    workspace: Workspace,
    rng: np.random.Generator,
    max_moves: int,
) -> Servo:
    """Return the servo for one attempt; without a Q-function it is always random."""
    if mode == Mode.RANDOM or q_function is None:
        return RandomServo(workspace, rng, min(max_moves, 2))
    return SearchServo(
        q_function,
        first_image=first_image,
        workspace=workspace,
        rng=rng,
        max_moves=max_moves,
        explore=mode == Mode.EXPLORE,
    )
