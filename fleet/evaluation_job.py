"""A few attempts of one simulated robot on held-out scenes; runs in a worker process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fleet.evaluation_result import EvaluatedAttempt, Policy
from protocol.episode import Episode, Mode, PolicyIdentity
from protocol.release import RANDOM_POLICY_DIGEST, unpack_release
from protocol.security import load_release_public
from robot_agent.agent import closed_zero_m
from robot_agent.attempts.episode_loop import EpisodeLoop
from robot_agent.calibrating.calibration import Calibration
from robot_agent.calibrating.own_motion import load_or_find
from robot_agent.cameras.base import Camera
from robot_agent.config import AgentConfig
from robot_agent.drivers import open_camera, open_robot
from robot_agent.policy.q_function import QFunction
from robot_agent.robots.base import Robot

RANDOM_MOVES = 2
"""Random attempts make at most this many moves, as they do while learning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationJob:
    """What one worker does in one go."""

    config: AgentConfig
    release: Path
    policy: Policy
    unseen_camera: bool
    scene_seed: int
    attempts: int
    max_moves: int


def run_job(job: EvaluationJob) -> list[EvaluatedAttempt]:
    """Make the attempts and return them in order.

    Raises:
        ConfigurationError: the robot is not simulated: it knows nothing of held-out objects.
        RejectedReleaseError: the release does not verify or cannot be loaded.
    """
    rng = np.random.default_rng([job.scene_seed, len(job.policy)])
    with _held_out_robot(job.config, job.scene_seed) as (robot, camera):
        calibration = load_or_find(robot, camera, job.config, rng).hand_eye_map
        loop = EpisodeLoop(
            config=job.config,
            robot=robot,
            camera=camera,
            calibration=calibration,
            rng=rng,
            closed_zero_m=closed_zero_m(robot),
        )
        q_function = None
        identity = PolicyIdentity(release_version=0, digest=RANDOM_POLICY_DIGEST)
        if job.policy == "greedy":
            verify_key = load_release_public(job.config.learner.release_key)
            release = unpack_release(job.release.read_bytes(), verify_key)
            q_function = QFunction(release, robot_id=job.config.name, calibration=calibration)
            identity = q_function.policy
        episodes = [
            loop.run_attempt(
                Mode.GREEDY if q_function else Mode.RANDOM,
                q_function,
                max_moves=job.max_moves if q_function else RANDOM_MOVES,
                policy=identity,
            )
            for _ in range(job.attempts)
        ]
    return [_evaluated(job, index, episode) for index, episode in enumerate(episodes)]


def calibrate(config: AgentConfig, seed: int) -> Calibration:
    """Let a robot find its hand-eye map; it is kept in the robot's state folder."""
    config.state_folder.mkdir(parents=True, exist_ok=True)
    with _held_out_robot(config, seed) as (robot, camera):
        return load_or_find(robot, camera, config, np.random.default_rng(seed))


@contextmanager
def _held_out_robot(config: AgentConfig, scene_seed: int) -> Iterator[tuple[Robot, Camera]]:
    """Open the simulated robot over bins of objects that training never saw."""
    options = {
        **config.robot.options,
        "seed": scene_seed,
        "objects": "held-out",
        "attempts_per_scene": 1,
    }
    robot = open_robot(
        dataclasses.replace(config, robot=dataclasses.replace(config.robot, options=options))
    )
    camera = open_camera(config.camera, robot)
    try:
        yield robot, camera
    finally:
        camera.close()
        robot.close()


def _evaluated(job: EvaluationJob, index: int, episode: Episode) -> EvaluatedAttempt:
    outcome = episode.outcome
    reference = outcome.reference
    return EvaluatedAttempt(
        robot=job.config.name,
        policy=job.policy,
        unseen_camera=job.unseen_camera,
        scene_seed=job.scene_seed,
        scene_index=index,
        label=outcome.label,
        reference_success=None if reference is None else reference.success,
        object_kind="" if reference is None else reference.object_kind,
        moves=len(episode.steps),
        tests_disagree=outcome.tests_disagree,
        decision_ms=[
            round(step.decision_ms, 3) for step in episode.steps if step.predicted_best is not None
        ],
        abort_reason=outcome.abort_reason,
    )
