"""Success of a release on objects that training never saw, over every robot's camera.

One more robot, whose camera stands where none stood while learning, calibrates itself as a new
robot would; it is reported apart.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleet.camera_description import error_mm, falsify, workspace_points
from fleet.child_process import SINGLE_THREADED, die_with
from fleet.evaluation_job import EvaluationJob, calibrate, run_job
from fleet.evaluation_result import EvaluatedAttempt, Evaluation, Policy, UnseenCamera
from fleet.fleet_files import MOST_ROBOTS, MOST_SEED, agent_config, simulated_robot_seed
from fleet.run_folder import RunFolder
from protocol.errors import ConfigurationError, RejectedReleaseError
from protocol.release import Release, unpack_release
from protocol.security import load_release_public
from robot_agent.calibrating.calibration import Calibration
from robot_agent.calibrating.described_camera import described_map
from robot_agent.config import AgentConfig, CameraDescription
from robot_agent.robots.simulated import randomised_options, true_hand_eye_map

HELD_OUT_SEEDS = 1_000_000_000
"""Scene seeds from here on belong to evaluation; training never reaches them."""
UNSEEN = "unseen-camera"
_SEEDS_PER_ROBOT = 10_000
_SEEDS_PER_RUN = 100_000_000
"""Runs of different seeds meet different bins, so that their results are independent."""
_UNSEEN_INDEX = MOST_ROBOTS
_ATTEMPTS_PER_JOB = 20
MOST_ATTEMPTS = _ATTEMPTS_PER_JOB * _SEEDS_PER_ROBOT
"""Of any kind: with more, one robot would meet the bins of another."""
MOST_MOVES = 100
"""The most that a release may ask for."""
_WORKERS = 2


class EvaluationStoppedError(Exception):
    """A person stopped the evaluation before its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationPlan:
    """How much to measure."""

    greedy: int = 400
    """Attempts with the release, over all robots."""
    random: int = 200
    """Attempts with random commands, on the same scenes."""
    unseen: int = 100
    """Attempts with the release, on the unseen camera."""
    max_moves: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        attempts = (self.greedy, self.random, self.unseen)
        if min(attempts) < 0 or not any(attempts):
            raise ConfigurationError(
                f"evaluation: {self.greedy} attempts with the release, {self.random} random, "
                f"{self.unseen} unseen: none may be below zero, nor all be zero"
            )
        if max(attempts) > MOST_ATTEMPTS:
            raise ConfigurationError(
                f"evaluation: {max(attempts)} attempts exceed {MOST_ATTEMPTS}: a robot would meet "
                "the bins of another"
            )
        if not 1 <= self.max_moves <= MOST_MOVES:
            raise ConfigurationError(
                f"evaluation: {self.max_moves} moves at most per attempt: from 1 to {MOST_MOVES}"
            )
        if not 0 <= self.seed <= MOST_SEED:
            raise ConfigurationError(f"evaluation: seed {self.seed} is outside 0 to {MOST_SEED}")


def evaluate(
    folder: RunFolder,
    release: Path,
    plan: EvaluationPlan,
    *,
    progress: Callable[[int, int], bool] = lambda done, total: True,
) -> Evaluation:
    """Measure a release of a run folder.

    Args:
        folder: its robots are measured.
        release: the release file.
        plan: how much to measure.
        progress: told attempts done and to do; returns False to stop.

    Raises:
        ConfigurationError: there are no robots, or they are not simulated; there is no such file.
        RejectedReleaseError: the release does not verify.
        EvaluationStoppedError: ``progress`` returned False.
    """
    started = time.monotonic()
    configs = [agent_config(folder, name) for name in folder.robot_names()]
    if not configs:
        raise ConfigurationError(f"{folder.root}: no robots to evaluate on")
    verify_key = load_release_public(configs[0].learner.release_key)
    unpacked = _read_release(release, verify_key)
    attempts, unseen = _measure(folder, configs, release, plan, progress)
    return _result(unpacked, plan, attempts, unseen, time.monotonic() - started)


def _read_release(path: Path, verify_key: Ed25519PublicKey) -> Release:
    try:
        return unpack_release(path.read_bytes(), verify_key)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except RejectedReleaseError as error:
        raise RejectedReleaseError(f"{path}: {error}") from error


def _measure(
    folder: RunFolder,
    configs: list[AgentConfig],
    release: Path,
    plan: EvaluationPlan,
    progress: Callable[[int, int], bool],
) -> tuple[list[EvaluatedAttempt], UnseenCamera | None]:
    total = plan.greedy + plan.random + plan.unseen
    attempts: list[EvaluatedAttempt] = []
    with _workers() as pool:
        new_robot, unseen = None, None
        if plan.unseen:
            new_robot = _new_robot(folder, configs[0], plan.seed)
            with _ctrl_c_afterwards():
                calibration = pool.submit(calibrate, new_robot, HELD_OUT_SEEDS - 1)
        futures = _submitted(pool, _known_jobs(configs, release, plan))
        if new_robot is not None:
            unseen = _unseen_camera(new_robot, calibration)
            jobs = _jobs(new_robot, _UNSEEN_INDEX, release, "greedy", plan.unseen, plan)
            futures += _submitted(pool, jobs)
        for future in as_completed(futures):
            attempts += future.result()
            if not progress(len(attempts), total):
                raise EvaluationStoppedError
    attempts.sort(key=lambda one: (one.policy, one.robot, one.scene_seed, one.scene_index))
    return attempts, unseen


@contextmanager
def _workers() -> Iterator[ProcessPoolExecutor]:
    """Yield what runs jobs; when the block fails, what it is at is given up."""
    os.environ.update(SINGLE_THREADED)  # before the workers load their libraries
    pool = ProcessPoolExecutor(
        _WORKERS,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_settle_worker,
        initargs=(os.getpid(),),
    )
    try:
        yield pool
    except BaseException:
        # A job takes minutes on a busy machine.
        for worker in multiprocessing.active_children():
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _submitted(
    pool: ProcessPoolExecutor, jobs: Iterable[EvaluationJob]
) -> list[Future[list[EvaluatedAttempt]]]:
    with _ctrl_c_afterwards():
        return [pool.submit(run_job, job) for job in jobs]


@contextmanager
def _ctrl_c_afterwards() -> Iterator[None]:
    """Hold Ctrl-C back from this process, and for good from those that are started meanwhile.

    A worker that is loading its libraries would end with a traceback.
    """
    # Starting it lets Ctrl-C through again.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _known_jobs(
    configs: list[AgentConfig], release: Path, plan: EvaluationPlan
) -> Iterator[EvaluationJob]:
    policies: tuple[tuple[Policy, int], ...] = (("greedy", plan.greedy), ("random", plan.random))
    for policy, attempts in policies:
        for index, config in enumerate(configs):
            share = attempts // len(configs) + (index < attempts % len(configs))
            yield from _jobs(config, index, release, policy, share, plan)


def _jobs(
    config: AgentConfig,
    index: int,
    release: Path,
    policy: Policy,
    attempts: int,
    plan: EvaluationPlan,
) -> Iterator[EvaluationJob]:
    """Cut one robot's share into pieces, so that two workers finish together."""
    for piece, first in enumerate(range(0, attempts, _ATTEMPTS_PER_JOB)):
        yield EvaluationJob(
            config=config,
            release=release,
            policy=policy,
            unseen_camera=config.name == UNSEEN,
            scene_seed=HELD_OUT_SEEDS
            + _SEEDS_PER_RUN * plan.seed
            + _SEEDS_PER_ROBOT * index
            + piece,
            attempts=min(_ATTEMPTS_PER_JOB, attempts - first),
            max_moves=plan.max_moves,
        )


def _new_robot(folder: RunFolder, pattern: AgentConfig, seed: int) -> AgentConfig:
    """Return a robot with a camera pose of its own, roughly described like the others."""
    robot_seed = simulated_robot_seed(seed, _UNSEEN_INDEX)
    options = randomised_options(robot_seed, "camera-and-wear")
    options |= {"arm": pattern.robot.options.get("arm", "")}
    true = CameraDescription(**options["camera"])
    return dataclasses.replace(
        pattern,
        name=UNSEEN,
        state_folder=folder.root / "evaluation" / UNSEEN,
        robot=dataclasses.replace(pattern.robot, options=options),
        camera_description=falsify(true, np.random.default_rng([robot_seed, 104_729])),
    )


def _unseen_camera(config: AgentConfig, calibration: Future[Calibration]) -> UnseenCamera:
    found = calibration.result()
    truth = true_hand_eye_map(config.robot.options)
    points = workspace_points(config.workspace.x_m, config.workspace.y_m)
    return UnseenCamera(
        described_error_mm=error_mm(described_map(config.camera_description), truth, points),
        found_error_mm=error_mm(found.hand_eye_map, truth, points),
        residual=round(found.residual, 4),
        trusted=found.trusted,
    )


def _result(
    release: Release,
    plan: EvaluationPlan,
    attempts: list[EvaluatedAttempt],
    unseen: UnseenCamera | None,
    wall_s: float,
) -> Evaluation:
    return Evaluation(
        release_version=release.manifest.version,
        release_digest=release.digest,
        network=release.manifest.network,
        max_moves=plan.max_moves,
        wall_s=round(wall_s, 1),
        objects="scales outside the training range, and one kind that training never saw",
        attempts=attempts,
        unseen_camera=unseen,
    )


def _settle_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
