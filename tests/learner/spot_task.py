"""A task that a network can learn in seconds: one bright spot in the bin, grasp it there."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learner.store.episode_store import EpisodeStore
from learner.store.stored_episode import Arrival, RecordKey
from learner.training.example_set import ExampleSet
from learner.training.hand_eye_refiner import HandEyeRefiner
from learner.training.step import Training
from protocol.codec import digest, encode_episode
from protocol.episode import Action, Episode, GripperPose, ImageArray, Label
from protocol.hand_eye import HandEyeMap, pinhole_map
from tests.episodes import make_episode

SIDE_PX = 32
STORE_BYTES = 10**8
SPOT_M = 0.008
"""Radius of the spot."""
NEAR_M, FAR_M = 0.008, 0.02
"""A grasp succeeds within the first distance of the spot; failures are beyond the second."""
TRUE_MAP = pinhole_map(
    position_m=(-0.34, -0.10, 0.46), look_at_m=(0.0, 0.0, 0.028), vertical_fov_deg=31.0
)
_START = GripperPose(x_m=0.0, y_m=0.0, z_m=0.1, yaw_rad=0.0)


def spot_episode(
    rng: np.random.Generator,
    *,
    success: bool,
    robot_id: str = "robot-01",
    camera: HandEyeMap = TRUE_MAP,
    calibration: HandEyeMap = TRUE_MAP,
) -> Episode:
    """Return an attempt of one step, seen by ``camera`` while the robot believes another map."""
    spot = rng.uniform((-0.07, -0.05), (0.07, 0.05))
    angle = rng.uniform(-math.pi, math.pi)
    off_m = NEAR_M * math.sqrt(rng.uniform()) if success else rng.uniform(FAR_M, 0.06)
    end = GripperPose(
        x_m=float(spot[0] + off_m * math.cos(angle)),
        y_m=float(spot[1] + off_m * math.sin(angle)),
        z_m=0.0,
        yaw_rad=rng.uniform(-1.5, 1.5),
    )
    picture = _picture(spot, camera)
    template = make_episode(robot_id, seed=int(rng.integers(2**31)), steps=1, side_px=SIDE_PX)
    step = template.steps[0]
    step = replace(
        step,
        observation=replace(step.observation, image=picture, pose=_START),
        commanded=Action.between(_START, end),
    )
    return replace(
        template,
        first_image=picture,
        calibration=calibration.matrix,
        steps=(step,),
        outcome=replace(template.outcome, label=Label.SUCCESS if success else Label.FAILURE),
    )


def spot_examples(
    count: int,
    refiner: HandEyeRefiner,
    *,
    success_share: float = 0.5,
    labels_mean_something: bool = True,
    calibrations: tuple[HandEyeMap, ...] = (TRUE_MAP,),
    seed: int = 0,
) -> ExampleSet:
    """Return the examples of ``count`` attempts, by as many robots as there are calibrations."""
    rng = np.random.default_rng(seed)
    examples = make_examples()
    for index in range(count):
        robot = index % len(calibrations)
        success = bool(rng.random() < success_share)
        aimed = success if labels_mean_something else bool(rng.random() < 0.5)
        episode = spot_episode(
            rng, success=aimed, robot_id=f"robot-{robot}", calibration=calibrations[robot]
        )
        label = Label.SUCCESS if success else Label.FAILURE
        episode = replace(episode, outcome=replace(episode.outcome, label=label))
        examples.add(episode, refiner.key_of(episode))
    return examples


def make_examples() -> ExampleSet:
    """Return an empty set that has room for what tests add."""
    return ExampleSet(height_px=SIDE_PX, width_px=SIDE_PX, max_bytes=30_000_000)


def step_on(training: Training, examples: ExampleSet) -> float:
    """Take the next step as the loop does; return its loss."""
    batch = training.sample(examples, training.step_count, training.own_batch_size)
    return training.step(batch)


def fill_store(folder: Path, *, count: int, seed: int = 0, robot_id: str = "robot-01") -> None:
    """Store attempts as the gateway would."""
    rng = np.random.default_rng(seed)
    episodes = [spot_episode(rng, success=i % 2 == 0, robot_id=robot_id) for i in range(count)]
    records = [encode_episode(episode) for episode in episodes]
    store = EpisodeStore(folder, STORE_BYTES)
    store.commit(
        [
            Arrival(
                key=RecordKey(robot_id=robot_id, spool_id=bytes(16), sequence=number),
                digest=digest(record),
                record=record,
                letter="s",
            )
            for number, record in enumerate(records, start=1)
        ]
    )
    store.close()


def _picture(spot: NDArray[np.float64], camera: HandEyeMap) -> ImageArray:
    """Return the bin's floor in grey with the spot, round on the floor, anti-aliased."""
    fine = 4 * SIDE_PX
    v, u = (np.mgrid[:fine, :fine] + 0.5) / (fine / 2) - 1
    matrix = camera.matrix.astype(np.float64)
    rows = matrix[None, None, :2] - np.stack([u, v], axis=-1)[..., None] * matrix[2]
    xy = np.linalg.solve(rows[..., :2], -rows[..., 3:])[..., 0]
    inside = np.linalg.norm(xy - spot, axis=-1) < SPOT_M
    light = inside.reshape(SIDE_PX, 4, SIDE_PX, 4).mean(axis=(1, 3))
    grey = (70 + 180 * light)[..., None]
    return np.repeat(grey, 3, axis=2).astype(np.uint8)
