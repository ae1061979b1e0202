"""Which row of the hand-eye refiner belongs to which calibration of which robot."""

from __future__ import annotations

import hashlib
import logging
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

MAX_CALIBRATIONS = 16
"""Of one robot that have rows: no robot can use up what the fleet has."""
Calibration = tuple[str, str]
"""Robot id, and the digest of the map that it found by its own motion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A calibration that has no row yet."""

    calibration: Calibration
    matrix: NDArray[np.float32]
    """float32[3, 4]."""
    is_in_use: bool
    """Whether its robot uses it today, as far as is known."""


class CalibrationRows:
    """Rows for the calibrations that robots use, however often they calibrate anew.

    A robot's calibration in use takes a free row. Where there is none, the robot that has most
    rows gives that of its oldest calibration: while there are more rows than robots, every robot
    has one. Calibrations that are no longer in use get rows as long as there are free ones.

    Any thread may ask. One thread gives, in an order that is the same for all workers, and what
    follows depends on that order alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: dict[str, dict[str, int]] = {}
        """By robot and digest; of each robot the oldest first."""
        self._taken = 0
        """Rows in use: the first ones."""
        self._wanted: dict[str, dict[str, NDArray[np.float32]]] = {}
        self._in_use: dict[str, str] = {}
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._taken

    def __deepcopy__(self, memo: object) -> CalibrationRows:
        return self.copied()

    def copied(self) -> CalibrationRows:
        """Return what stays as it is now."""
        found = CalibrationRows(self._most)
        with self._lock:
            found._rows = {robot: dict(own) for robot, own in self._rows.items()}
            found._taken, found._in_use = self._taken, dict(self._in_use)
        return found

    def note_in_use(self, calibration: Calibration, *, is_new: bool) -> None:
        """Note that a robot uses a calibration.

        Args:
            calibration: of an attempt of the live fleet; another's says nothing of today.
            is_new: it has just come. Others come from the newest backwards: the first one counts.
        """
        robot_id, digest = calibration
        with self._lock:
            if is_new:
                self._in_use[robot_id] = digest
            else:
                self._in_use.setdefault(robot_id, digest)

    def want(self, calibration: Calibration, matrix: NDArray[np.float32]) -> None:
        """Ask for a row for a calibration, unless it has one."""
        robot_id, digest = calibration
        with self._lock:
            if digest in self._rows.get(robot_id, {}) or not self._may_have(calibration):
                return
            own = self._wanted.setdefault(robot_id, {})
            own.setdefault(digest, matrix.copy())
            if len(own) > MAX_CALIBRATIONS:
                del own[next(iter(own))]

    def take_wanted(self) -> list[Wanted]:
        """Return what was asked for since the last time, in the order of the robots."""
        with self._lock:
            found = [
                Wanted(
                    calibration=(robot_id, digest),
                    matrix=matrix,
                    is_in_use=self._is_in_use((robot_id, digest)),
                )
                for robot_id, own in self._wanted.items()
                for digest, matrix in own.items()
            ]
            self._wanted.clear()
        return found

    def give(self, wanted: Wanted) -> int | None:
        """Return the row that a calibration gets; None if it has one, or there is none for it."""
        robot_id, digest = wanted.calibration
        with self._lock:
            own = self._rows.get(robot_id, {})
            row = (
                None if digest in own else self._row_for(robot_id, own, is_in_use=wanted.is_in_use)
            )
            if row is not None:
                # What is read of the past is older than what the robot has used since.
                last = {digest: row}
                self._rows[robot_id] = own | last if wanted.is_in_use else last | own
        return row

    def known(self) -> list[Calibration]:
        """Return calibrations by row."""
        with self._lock:
            found = {
                row: (robot, digest)
                for robot, own in self._rows.items()
                for digest, row in own.items()
            }
        return [found[row] for row in range(len(found))]

    def by_age(self) -> list[int]:
        """Return all rows, of each robot the oldest calibration's first."""
        with self._lock:
            return [row for own in self._rows.values() for row in own.values()]

    def in_use(self) -> dict[str, int]:
        """Return by robot id the row of the calibration in use.

        That of the newest one where only recorded attempts are known; none while the one in use
        has no row yet: a robot passes over a map of another calibration.
        """
        with self._lock:
            found = {
                robot_id: own.get(self._in_use.get(robot_id, next(reversed(own))))
                for robot_id, own in self._rows.items()
            }
        return {robot_id: row for robot_id, row in found.items() if row is not None}

    def restore(self, known: list[Calibration], by_age: list[int]) -> None:
        """Set what ``known`` and ``by_age`` said; without the latter, by row."""
        with self._lock:
            self._rows.clear()
            for row in by_age or range(len(known)):
                robot_id, digest = known[row]
                self._rows.setdefault(robot_id, {})[digest] = row
            self._taken = len(known)

    def _is_in_use(self, calibration: Calibration) -> bool:
        robot_id, digest = calibration
        return self._in_use.get(robot_id, digest) == digest

    def _may_have(self, calibration: Calibration) -> bool:
        own = self._rows.get(calibration[0], {})
        return self._has_free(own) or self._is_in_use(calibration)

    def _has_free(self, own: dict[str, int]) -> bool:
        return len(own) < MAX_CALIBRATIONS and self._taken < self._most

    def _row_for(self, robot_id: str, own: dict[str, int], *, is_in_use: bool) -> int | None:
        if self._has_free(own):
            self._taken += 1
            return self._taken - 1
        if not is_in_use:
            return None
        is_crowded = len(own) >= MAX_CALIBRATIONS
        giver = own if is_crowded else max(self._rows.values(), key=len)
        if is_crowded:
            self._say_once(
                f"{robot_id} has had more than {MAX_CALIBRATIONS} calibrations: the oldest are "
                "forgotten; a camera that stays where it is needs one"
            )
        elif len(giver) == 1:
            self._say_once(
                f"more than {self._most} robots: the hand-eye maps of the others are not refined; "
                "they are learned from as they are"
            )
            return None
        return giver.pop(next(iter(giver)))

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)


def key_of(calibration: Calibration) -> int:
    """Return a number from 0 to 2**63 - 1 that is this calibration's alone, on every worker."""
    found = hashlib.sha256("\0".join(calibration).encode()).digest()
    return int.from_bytes(found[:8], "big") >> 1
