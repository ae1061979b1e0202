"""What an episode record says beside its images; the schema that both sides hold each other to.

Every number has a range, which also refuses NaN and infinity. Poses and actions travel as arrays
in the order of their fields.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
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
    Step,
    StepKind,
)
from protocol.messages import Count, Name

Metres = Annotated[float, msgspec.Meta(ge=-100, le=100)]
Radians = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
UnitValue = Annotated[float, msgspec.Meta(ge=-1.001, le=1.001)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
MapElement = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
TimeNs = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Pixels = Annotated[int, msgspec.Meta(ge=1, le=65535)]
MapMeta = Annotated[list[MapElement], msgspec.Meta(min_length=12, max_length=12)]
"""float32[3, 4], row by row."""


class _Meta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Base of all that follows.

    None of it can refer to itself: without ``gc=False`` the collector would be woken by every
    dozen records, whose some sixty objects it looked through in vain.
    """


class PoseMeta(_Meta, frozen=True, kw_only=True, array_like=True):
    """See GripperPose."""

    x_m: Metres
    y_m: Metres
    z_m: Metres
    yaw_rad: Radians


class ActionMeta(_Meta, frozen=True, kw_only=True, array_like=True):
    """See Action."""

    dx_m: Metres
    dy_m: Metres
    dz_m: Metres
    sin_yaw: UnitValue
    cos_yaw: UnitValue


class ObservationMeta(_Meta, frozen=True, kw_only=True):
    """See Observation; its image follows behind the meta."""

    pose: PoseMeta
    opening_m: Metres
    captured_at_ns: TimeNs


class StepMeta(_Meta, frozen=True, kw_only=True):
    """See Step."""

    kind: StepKind
    observation: ObservationMeta
    wished: ActionMeta
    commanded: ActionMeta
    reached: ActionMeta
    predicted_best: Probability | None
    predicted_stay: Probability | None
    decision_ms: Milliseconds


class ReferenceMeta(_Meta, frozen=True, kw_only=True):
    """See ReferenceOutcome."""

    success: bool
    object_kind: str


class OutcomeMeta(_Meta, frozen=True, kw_only=True):
    """See GraspOutcome."""

    label: Label
    opening_after_close_m: Metres
    opening_after_lift_m: Metres
    opening_says_held: bool
    drop_test_says_held: bool
    drop_test_score: Probability
    abort_reason: str
    reference: ReferenceMeta | None


class PolicyMeta(_Meta, frozen=True, kw_only=True):
    """See PolicyIdentity."""

    release_version: Count
    digest: str


class EpisodeMeta(_Meta, frozen=True, kw_only=True):
    """See Episode."""

    episode_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    robot_id: Name
    task: str
    mode: Mode
    policy: PolicyMeta
    started_at_ns: TimeNs
    finished_at_ns: TimeNs
    calibration: MapMeta
    hand_eye_map: MapMeta
    steps: list[StepMeta]
    outcome: OutcomeMeta
    height_px: Pixels
    width_px: Pixels
    image_bytes: list[Annotated[int, msgspec.Meta(ge=1)]]
    """Sizes of the images, which follow each other without a gap: the first, the last, then one
    for each step."""


def texts(meta: EpisodeMeta) -> tuple[str, ...]:
    """Return every string whose length the schema leaves open."""
    reference = meta.outcome.reference
    kind = "" if reference is None else reference.object_kind
    return meta.task, meta.policy.digest, meta.outcome.abort_reason, kind


def meta_of(episode: Episode, image_bytes: list[int]) -> EpisodeMeta:
    """Return what the record of ``episode`` says beside its images.

    Raises:
        msgspec.ValidationError: a number is out of its range, or not finite.
    """
    height_px, width_px = episode.first_image.shape[:2]
    return msgspec.convert(
        {
            "episode_id": episode.episode_id,
            "robot_id": episode.robot_id,
            "task": episode.task,
            "mode": episode.mode,
            "policy": episode.policy,
            "started_at_ns": episode.started_at_ns,
            "finished_at_ns": episode.finished_at_ns,
            "calibration": _map_elements(episode.calibration),
            "hand_eye_map": _map_elements(episode.hand_eye_map),
            "steps": episode.steps,
            "outcome": episode.outcome,
            "height_px": height_px,
            "width_px": width_px,
            "image_bytes": image_bytes,
        },
        EpisodeMeta,
        from_attributes=True,
    )


def episode_from(meta: EpisodeMeta, images: list[ImageArray]) -> Episode:
    """Put an episode together again; ``images`` in the order of ``image_bytes``."""
    first, last, *seen = images
    return Episode(
        episode_id=meta.episode_id,
        robot_id=meta.robot_id,
        task=meta.task,
        mode=meta.mode,
        policy=msgspec.convert(meta.policy, PolicyIdentity, from_attributes=True),
        started_at_ns=meta.started_at_ns,
        finished_at_ns=meta.finished_at_ns,
        first_image=first,
        last_image=last,
        calibration=_map_matrix(meta.calibration),
        hand_eye_map=_map_matrix(meta.hand_eye_map),
        steps=tuple(_step(step, image) for step, image in zip(meta.steps, seen, strict=True)),
        outcome=msgspec.convert(meta.outcome, GraspOutcome, from_attributes=True),
    )


def _step(meta: StepMeta, image: ImageArray) -> Step:
    return Step(
        kind=meta.kind,
        observation=Observation(
            image=image,
            pose=msgspec.convert(meta.observation.pose, GripperPose, from_attributes=True),
            opening_m=meta.observation.opening_m,
            captured_at_ns=meta.observation.captured_at_ns,
        ),
        wished=msgspec.convert(meta.wished, Action, from_attributes=True),
        commanded=msgspec.convert(meta.commanded, Action, from_attributes=True),
        reached=msgspec.convert(meta.reached, Action, from_attributes=True),
        predicted_best=meta.predicted_best,
        predicted_stay=meta.predicted_stay,
        decision_ms=meta.decision_ms,
    )


def _map_elements(matrix: NDArray[np.float32]) -> list[float]:
    return [float(element) for element in matrix.reshape(-1)]


def _map_matrix(elements: list[float]) -> NDArray[np.float32]:
    return np.array(elements, np.float32).reshape(3, 4)
