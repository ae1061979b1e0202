"""Which robot grasps worse than all others together, by a margin that is no accident."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fleet.concern import Concern, warning
from fleet.overview import Overview
from fleet.proportion import Proportion
from fleet.status import rolling_greedy

STANDARD_ERRORS = 5.0
LEAST_DIFFERENCE = 0.1
FEWEST_OWN_ATTEMPTS = 50
FEWEST_OTHER_ATTEMPTS = 100
"""As in the alert RobotBelowFleet. Fifty robots are looked at many times a day: two 95 % intervals
that lie apart would accuse one of fifty equal robots at every second look."""


def below_the_others(overview: Overview) -> Iterator[Concern]:
    """Yield who is that far below, by the last greedy attempts of each."""
    own = {robot.robot_id: rolling_greedy(robot) for robot in overview.status.robots}
    fleet = sum(own.values(), Proportion(successes=0, attempts=0))
    for name in sorted(own.keys() & overview.members):
        others = fleet - own[name]
        if is_below(own[name], others):
            yield warning(
                name,
                f"greedy success {own[name]}, the others' {others}",
                "look at its gripper and its camera, then let it find its hand-eye map anew",
            )


def is_below(own: Proportion, others: Proportion) -> bool:
    """Say whether a robot's success is below that of the others beyond doubt."""
    if own.attempts < FEWEST_OWN_ATTEMPTS or others.attempts < FEWEST_OTHER_ATTEMPTS:
        return False
    difference = (others.rate or 0.0) - (own.rate or 0.0)
    return difference > LEAST_DIFFERENCE and difference > STANDARD_ERRORS * _error(own, others)


def _error(own: Proportion, others: Proportion) -> float:
    """Return the standard error of the difference if both were equal; never 0."""
    both = own + others
    rate = (both.successes + 1) / (both.attempts + 2)
    return math.sqrt(rate * (1 - rate) * (1 / own.attempts + 1 / others.attempts))
