"""Admission: whether a record that a robot submits may enter the store."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from learner.monitoring.attempt_facts import AttemptFacts, facts_of
from learner.store.ledger import letter_of
from learner.store.stored_episode import Arrival, RecordKey
from protocol.codec import digest, read_episode_meta
from protocol.errors import RejectedEpisodeError
from protocol.hand_eye import has_finite_camera
from protocol.limits import EPISODE_LIMITS, EpisodeLimits
from protocol.messages import EpisodeSubmission
from protocol.refusal_code import RefusalCode

ImageSize = tuple[int, int]
"""Height and width in pixels."""


class Admitted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record that may be stored."""

    arrival: Arrival
    facts: AttemptFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Why a record will never be accepted."""

    code: RefusalCode
    reason: str


def admit(
    submission: EpisodeSubmission,
    record: bytes | memoryview,
    robot_id: str,
    limits: EpisodeLimits = EPISODE_LIMITS,
    *,
    image_size_px: ImageSize | None = None,
) -> Admitted | Refused:
    """Check a record without decoding its images.

    Args:
        submission: what the robot says of the record.
        record: the body frame.
        robot_id: the robot as its key authenticates it.
        limits: what a record may hold.
        image_size_px: what its pictures must measure for the network to learn from them; None
            for any. The robot sets a refused record aside on its disk, so that nothing is lost
            when it is the learner whose configuration is wrong.
    """
    found = digest(record)
    if found != submission.digest:
        return Refused(
            code=RefusalCode.DIGEST,
            reason=f"sequence {submission.sequence}: sha256 of the {len(record)} bytes received is "
            f"{found.hex()[:16]}…, announced was {submission.digest.hex()[:16]}…",
        )
    try:
        meta = read_episode_meta(record, limits)
    except RejectedEpisodeError as error:
        return Refused(code=RefusalCode.RECORD, reason=f"sequence {submission.sequence}: {error}")
    if meta.robot_id != robot_id:
        return Refused(
            code=RefusalCode.ROBOT_NAME,
            reason=f"episode {meta.episode_id} says it is of {meta.robot_id}, but the key "
            f"is of {robot_id}",
        )
    if image_size_px is not None and (meta.height_px, meta.width_px) != image_size_px:
        return Refused(
            code=RefusalCode.PICTURE_SIZE,
            reason=f"episode {meta.episode_id} of {robot_id}: pictures of {meta.height_px} x "
            f"{meta.width_px} px (height, width), the learner is configured for "
            f"{image_size_px[0]} x {image_size_px[1]}: correct the camera in its robot.toml",
        )
    for name, matrix in (("calibration", meta.calibration), ("hand_eye_map", meta.hand_eye_map)):
        if not has_finite_camera(matrix):
            return Refused(
                code=RefusalCode.RECORD,
                reason=f"episode {meta.episode_id} of {robot_id}: its {name} is of no camera at a "
                "finite distance: calibrate anew",
            )
    arrival = Arrival(
        key=RecordKey(
            robot_id=robot_id, spool_id=submission.spool_id, sequence=submission.sequence
        ),
        digest=found,
        record=record,
        letter=letter_of(meta.outcome.label, meta.mode),
    )
    return Admitted(arrival=arrival, facts=facts_of(meta, len(record)))
