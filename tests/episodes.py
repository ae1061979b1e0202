"""Synthetic episodes for tests: valid in every field, small, and the same for the same seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.episode import (
    Action,
    Episode,
    GraspOutcome,
    GripperPose,
    ImageArray,
    Label,
    Mode,
    Observation,
    PolicyIdentity,
    ReferenceOutcome,
    Step,
    StepKind,
)

STARTED_AT_NS = 1_700_000_000_000_000_000


def make_episode(
    robot_id: str = "robot-01",
    seed: int = 0,
    steps: int = 4,
    success: bool = True,
    *,
    side_px: int = 64,
    mode: Mode = Mode.RANDOM,
    release_version: int = 0,
) -> Episode:
    """Return an episode of ``steps`` decisions, the last of which closes the gripper."""
    random = np.random.default_rng(seed)
    # A camera stays where it is from one attempt to the next.
    calibration = _matrix(np.random.default_rng(list(robot_id.encode())))
    return Episode(
        episode_id=random.bytes(16).hex(),
        robot_id=robot_id,
        task="bin-picking",
        mode=mode,
        policy=PolicyIdentity(release_version=release_version, digest="ab" * 32),
        started_at_ns=STARTED_AT_NS + seed,
        finished_at_ns=STARTED_AT_NS + seed + 5_000_000_000,
        first_image=make_image(random, side_px),
        last_image=make_image(random, side_px),
        calibration=calibration,
        # The second one drawn, as in the record that is kept from the first version.
        hand_eye_map=random.normal(size=(2, 3, 4)).astype(np.float32)[1],
        steps=tuple(
            _step(random, side_px, StepKind.CLOSE if index == steps - 1 else StepKind.MOVE)
            for index in range(steps)
        ),
        outcome=GraspOutcome(
            label=Label.SUCCESS if success else Label.FAILURE,
            opening_after_close_m=0.012 if success else 0.0,
            opening_after_lift_m=0.011 if success else 0.0,
            opening_says_held=success,
            drop_test_says_held=success,
            drop_test_score=0.05 if success else 0.001,
            reference=ReferenceOutcome(success=success, object_kind="fork"),
        ),
    )


def make_image(random: np.random.Generator, side_px: int = 64) -> ImageArray:
    """Return a gradient with blocks on it, uint8[side, side, 3]: it compresses like a bin does."""
    ramp = np.linspace(0, 160, side_px, dtype=np.float64)
    image = ramp[:, None, None] * random.uniform(0.3, 1, 3) + ramp[None, :, None] * 0.5
    for _ in range(6):
        top, left = random.integers(0, side_px * 3 // 4, 2)
        image[top : top + side_px // 4, left : left + side_px // 8] = random.uniform(0, 255, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def _step(random: np.random.Generator, side_px: int, kind: StepKind) -> Step:
    wished = _action(random)
    return Step(
        kind=kind,
        observation=Observation(
            image=make_image(random, side_px),
            pose=GripperPose(
                x_m=random.uniform(-0.1, 0.1),
                y_m=random.uniform(-0.1, 0.1),
                z_m=random.uniform(0, 0.2),
                yaw_rad=random.uniform(-1.5, 1.5),
            ),
            opening_m=0.08,
            captured_at_ns=STARTED_AT_NS,
        ),
        wished=wished,
        commanded=wished,
        reached=_action(random),
        predicted_best=random.uniform(),
        predicted_stay=None,
        decision_ms=random.uniform(1, 20),
    )


def _action(random: np.random.Generator) -> Action:
    turn = random.uniform(-3, 3)
    return Action(
        dx_m=random.uniform(-0.1, 0.1),
        dy_m=random.uniform(-0.1, 0.1),
        dz_m=random.uniform(-0.1, 0.1),
        sin_yaw=float(np.sin(turn)),
        cos_yaw=float(np.cos(turn)),
    )


def _matrix(random: np.random.Generator) -> NDArray[np.float32]:
    return random.normal(size=(3, 4)).astype(np.float32)
