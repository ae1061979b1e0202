"""Attempts for tests of the curve and the summary."""

from __future__ import annotations

from fleet.attempts import Attempt
from protocol.episode import Label, Mode

START_NS = 1_700_000_000_000_000_000


def make_attempt(
    second: float,
    *,
    success: bool = True,
    mode: Mode = Mode.GREEDY,
    robot_id: str = "robot-01",
    release_version: int = 1,
    reference_success: bool | None = None,
    label: Label | None = None,
) -> Attempt:
    own = Label.SUCCESS if success else Label.FAILURE
    return Attempt(
        robot_id=robot_id,
        finished_at_ns=START_NS + int(second * 1e9),
        mode=mode,
        label=label or own,
        release_version=release_version,
        moves=3,
        reference_success=success if reference_success is None else reference_success,
        object_kind="fork",
        tests_disagree=False,
        decision_ms=(5.0, 7.0) if mode != Mode.RANDOM else (),
    )
