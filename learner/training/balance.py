"""How often examples are drawn: outcomes in equal parts, robots in equal parts, within reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# R robots, O outcomes (failure, success)

_SUREST_SHARE = 0.01
"""A robot's share of successes counts as no further from 0 or 1 than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """What to draw from the examples of each robot and outcome."""

    share_OR: NDArray[np.float64]
    """Of the draws of one outcome, the part that each robot's examples get."""
    added_logit_R: NDArray[np.float32]
    """What drawing so adds to the log-odds of success of a robot's examples."""


def balanced(count_OR: NDArray[np.int64], most_repeats: float) -> Balance:
    """Return how to draw from so many examples.

    Robots share alike within an outcome, but an example is drawn at most ``most_repeats`` times
    as often as the average one of its outcome: the first attempts of a new robot would otherwise
    be learnt by heart.

    Args:
        count_OR: int64[2, R]; each robot has an example of one outcome at least.
        most_repeats: at least 1.
    """
    share_OR = np.stack([_shares(count_R, most_repeats) for count_R in count_OR])
    return Balance(share_OR=share_OR, added_logit_R=_added_logit(count_OR, share_OR))


def _shares(count_R: NDArray[np.int64], most_repeats: float) -> NDArray[np.float64]:
    """Return equal shares of 1, none above ``most_repeats`` times its part of the examples."""
    share_R = np.zeros(len(count_R))
    total = count_R.sum()
    if not total:
        return share_R
    ceiling_R = most_repeats * count_R / total
    left = 1.0
    # From the smallest: what it may not take is shared by the others.
    for rank, robot in enumerate(np.argsort(ceiling_R, kind="stable")):
        share_R[robot] = min(ceiling_R[robot], left / (len(count_R) - rank))
        left -= share_R[robot]
    return share_R


def _added_logit(count_OR: NDArray[np.int64], share_OR: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return float32[R]: log of how much more often a success is drawn than a failure.

    Where a robot has one outcome alone, that of all robots together is taken for it.
    """
    total_O = np.maximum(count_OR.sum(axis=1), 1)
    often_OR = np.where(count_OR > 0, share_OR, 1) / np.maximum(count_OR, 1)
    has_both_R = (count_OR > 0).all(axis=0)
    ratio_R = np.where(has_both_R, often_OR[1] / often_OR[0], total_O[0] / total_O[1])
    surest = np.log(1 / _SUREST_SHARE - 1)
    added: NDArray[np.float32] = np.clip(np.log(ratio_R), -surest, surest).astype(np.float32)
    return added
