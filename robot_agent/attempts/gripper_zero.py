"""How far the gripper's zero has moved since the robot was first started."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from pathlib import Path
from statistics import median

from protocol.episode import GraspOutcome, Label

logger = logging.getLogger(__name__)

_FILE = "gripper-zero.json"
_READINGS = 20
_FEWEST = 5
"""Readings below which the one at the agent's start says more."""


class GripperZero:
    """Watches what the gripper reads when it holds nothing.

    That is measured when the agent starts, and read again in every attempt that failed. What is
    too thin to be told from nothing is among those, hence a median.
    """

    def __init__(self, folder: Path, measured_m: float) -> None:
        """Begin with what the gripper reads now.

        Args:
            folder: where the first start's reading is kept; remove the file after a repair.
            measured_m: what the gripper reads, closed on nothing.
        """
        self._now_m = measured_m
        self._first_m = _first_reading(folder / _FILE, measured_m)
        self._empty_m: deque[float] = deque(maxlen=_READINGS)

    def add(self, outcome: GraspOutcome) -> None:
        """Take what an attempt read."""
        if outcome.label == Label.FAILURE:
            self._empty_m.append(outcome.opening_after_lift_m)

    @property
    def drift_m(self) -> float:
        """Reading of the empty gripper now, less that of the first start."""
        # Another thread may add meanwhile.
        empty_m = list(self._empty_m)
        now_m = median(empty_m) if len(empty_m) >= _FEWEST else self._now_m
        return now_m - self._first_m


def _first_reading(file: Path, measured_m: float) -> float:
    """Return the first start's reading; ``measured_m`` becomes it where there is none."""
    try:
        found = json.loads(file.read_bytes())["closed_zero_m"]
        if isinstance(found, float) and math.isfinite(found):
            return found
        logger.warning("%s holds no reading; this start counts as the first", file)
    except FileNotFoundError:
        logger.info("the gripper's zero of %.2f mm is what it is compared with", 1e3 * measured_m)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s cannot be read (%s); this start counts as the first", file, error)
    try:
        file.write_text(json.dumps({"closed_zero_m": measured_m}) + "\n")
    except OSError as error:
        logger.warning("the gripper's zero is not kept at %s: %s", file, error.strerror)
    return measured_m
