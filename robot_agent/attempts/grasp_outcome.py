"""An attempt judges itself: gripper opening, and the drop test beside it."""

from __future__ import annotations

import numpy as np

from protocol.episode import GraspOutcome, ImageArray, Label, ReferenceOutcome
from robot_agent.config import LabelConfig

CHANGED_LEVELS = 25
"""A pixel changed when any colour differs by more than this, of 255: above camera noise."""


def drop_test_score(holding: ImageArray, dropped: ImageArray) -> float:
    """Return the fraction of pixels that changed when the gripper opened out of view.

    Levine et al. 2016, section IV-C: if something was held, it now lies in the bin.
    """
    difference = np.abs(holding.astype(np.int16) - dropped.astype(np.int16)).max(axis=2)
    return float((difference > CHANGED_LEVELS).mean())


def judge(
    *,
    opening_after_close_m: float,
    opening_after_lift_m: float,
    closed_zero_m: float,
    changed_fraction: float,
    reference: ReferenceOutcome | None,
    config: LabelConfig,
) -> GraspOutcome:
    """Return the outcome; the label follows the gripper opening after the lift.

    Args:
        opening_after_close_m: measured on the bin's floor.
        opening_after_lift_m: measured out of view, metres.
        closed_zero_m: what this gripper reads when it closes on nothing.
        changed_fraction: see drop_test_score.
        reference: an independent instrument's verdict, recorded and not used.
        config: thresholds.
    """
    held = opening_after_lift_m - closed_zero_m > config.min_opening_m
    return GraspOutcome(
        label=Label.SUCCESS if held else Label.FAILURE,
        opening_after_close_m=opening_after_close_m,
        opening_after_lift_m=opening_after_lift_m,
        opening_says_held=held,
        drop_test_says_held=changed_fraction >= config.min_changed_fraction,
        drop_test_score=changed_fraction,
        reference=reference,
    )


def aborted(reason: str) -> GraspOutcome:
    """Return the outcome of an attempt that could not be finished."""
    return GraspOutcome(
        label=Label.ABORTED,
        opening_after_close_m=0.0,
        opening_after_lift_m=0.0,
        opening_says_held=False,
        drop_test_says_held=False,
        drop_test_score=0.0,
        abort_reason=reason,
    )
