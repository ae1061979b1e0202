"""Notices a hand-eye map that learning cannot mend: the network stays blind on that robot."""

from __future__ import annotations

from statistics import median

from torch import Tensor

from learner.training.roc import area_under_curve

# B batch

FEWEST_EXAMPLES = 80
"""Held-out examples of one robot below which nothing is said of it."""
BLIND_AUC = 0.6
"""At or below this, predictions hardly tell a robot's successes from its failures."""
SEEING_AUC = 0.75
"""The fleet's median must reach this first: an untrained network is blind on every robot."""


def map_doubts(logit_B: Tensor, success_B: Tensor, robot_B: Tensor) -> dict[int, str]:
    """Return by calibration why its map is doubted, in words.

    Args:
        logit_B: float32[B], predictions on held-out examples.
        success_B: float32[B], their labels.
        robot_B: int64[B], whose they are: keys of calibrations.
    """
    curves: dict[int, float] = {}
    for robot in sorted(set(robot_B.tolist())):
        of_robot = robot_B == robot
        auc = area_under_curve(logit_B[of_robot], success_B[of_robot])
        if auc is not None and int(of_robot.sum()) >= FEWEST_EXAMPLES:
            curves[robot] = auc
    if len(curves) < 2 or median(curves.values()) < SEEING_AUC:
        return {}
    return {
        robot: f"predictions tell this robot's successes from its failures at an AUC of {auc:.2f}, "
        f"the fleet's at {median(curves.values()):.2f}: its hand-eye map does not come right; "
        "calibrate anew, and check where the camera points"
        for robot, auc in curves.items()
        if auc <= BLIND_AUC
    }
