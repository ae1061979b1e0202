"""Decoded examples in memory, bounded: the oldest go first."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray

from learner.training.balance import Balance, balanced
from learner.training.batch import Batch
from learner.training.place_deque import PlaceDeque
from protocol.episode import Action, Episode, Label

# B batch, R robots, O outcomes

_FACTS_BYTES = 112
"""What an example takes beside its picture, rounded up."""


class ExampleSet:
    """Examples of one kind, for training or held out. Any thread may add or draw.

    A row holds one picture. An attempt takes a row for the bin without the hand and one for each
    of its steps; they stand in the order of the attempts. An example's *place* counts rows from
    the first attempt that came, downwards for older ones, so that it names the example for ever;
    its row is the place modulo the number of rows.
    """

    def __init__(
        self, *, height_px: int, width_px: int, max_bytes: int, most_repeats: float = 4.0
    ) -> None:
        """Reserve address space; memory is taken up as examples come.

        Args:
            height_px: of every picture.
            width_px: of every picture.
            max_bytes: of all rows.
            most_repeats: see ``balance.balanced``.
        """
        self._row_bytes = row_bytes(height_px=height_px, width_px=width_px)
        self._rows = rows = max_bytes // self._row_bytes
        self._most_repeats = most_repeats
        self._image = np.empty((rows, height_px, width_px, 3), np.uint8)
        self._first = np.empty(rows, np.int64)
        self._pose = np.empty((rows, 4), np.float32)
        self._action = np.empty((rows, 5), np.float32)
        self._calibration = np.empty(rows, np.int64)
        self._map = np.empty((rows, 3, 4), np.float32)
        self._success = np.empty(rows, np.float32)
        self._begin = self._end = 0
        self._has_dropped = False
        self._lengths: deque[int] = deque()
        self._groups: dict[int, tuple[PlaceDeque, PlaceDeque]] = {}
        self._balance: Balance | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._end - self._begin - len(self._lengths)

    @property
    def attempts(self) -> int:
        """How many attempts the examples are of."""
        return len(self._lengths)

    @property
    def size_bytes(self) -> int:
        """What the examples take up."""
        return (self._end - self._begin) * self._row_bytes

    @property
    def limit_bytes(self) -> int:
        """What they may take up."""
        return self._rows * self._row_bytes

    @property
    def success_share(self) -> float:
        """Share of examples that belong to successful attempts; 0.5 while there is none."""
        with self._lock:
            failed, succeeded = self._counts().sum(axis=1)
        return float(succeeded / (failed + succeeded)) if failed + succeeded else 0.5

    def add(self, episode: Episode, calibration: int) -> None:
        """Add every step of a finished attempt as the newest; the oldest make room for it.

        An attempt that would not fit alone is left out: ``replay_of`` sees to it that only sets
        for hardly anything held out are so small.
        """
        needed = len(episode.steps) + 1
        if needed > self._rows:
            return
        with self._lock:
            while self._end - self._begin + needed > self._rows:
                self._drop_oldest()
            place, self._end = self._end, self._end + needed
            self._lengths.append(needed)
            self._write(place, episode, calibration)
            group = self._group(episode, calibration)
            for step_place in range(place + 1, place + needed):
                group.append(step_place)

    def add_older(self, episode: Episode, calibration: int) -> bool:
        """Add every step of a finished attempt as the oldest; False if there is no room for it.

        Nor is there any once the set was full: the places before it have named others.
        """
        needed = len(episode.steps) + 1
        with self._lock:
            if self._has_dropped or self._end - self._begin + needed > self._rows:
                return False
            self._begin -= needed
            self._lengths.appendleft(needed)
            self._write(self._begin, episode, calibration)
            group = self._group(episode, calibration)
            for step_place in range(self._begin + needed - 1, self._begin, -1):
                group.append_front(step_place)
        return True

    def drop_older_than(self, attempts: int) -> None:
        """Keep this many of the newest attempts."""
        with self._lock:
            while len(self._lengths) > attempts:
                self._drop_oldest()

    def sample(self, count: int, rng: np.random.Generator) -> Batch:
        """Return ``count`` examples: half of each outcome, of every robot alike (see balance)."""
        with self._lock:
            robots = list(self._groups)
            if self._balance is None:
                self._balance = balanced(self._counts(), self._most_repeats)
            balance = self._balance
            present = [o for o in (0, 1) if balance.share_OR[o].any()]
            sizes = [count // len(present)] * len(present)
            if left := count - sum(sizes):
                sizes[rng.integers(len(sizes))] += left
            pieces = []
            for outcome, size in zip(present, sizes, strict=True):
                drawn_R = rng.multinomial(size, balance.share_OR[outcome])
                for robot in np.flatnonzero(drawn_R):
                    group = self._groups[robots[robot]][outcome]
                    pieces.append(group.at(rng.integers(len(group), size=drawn_R[robot])))
            place_B = np.concatenate(pieces)
            added_R = dict(zip(robots, balance.added_logit_R, strict=True))
            robot_B = self._calibration[place_B % self._rows]
            added_B = np.array([added_R[robot] for robot in robot_B.tolist()], np.float32)
            return self._batch(place_B, added_B)

    def newest(self, limit: int) -> Batch:
        """Return the newest examples, ``limit`` at most, as they came."""
        with self._lock:
            begin = self._end
            found = 0
            for length in reversed(self._lengths):
                if found >= limit:
                    break
                begin -= length
                found += length - 1
            place_B = np.arange(begin, self._end)
            is_step_B = self._first[place_B % self._rows] != place_B
            place_B = place_B[is_step_B][-limit:] if limit else place_B[:0]
            return self._batch(place_B, np.zeros(len(place_B), np.float32))

    def _group(self, episode: Episode, calibration: int) -> PlaceDeque:
        success = int(episode.outcome.label == Label.SUCCESS)
        self._balance = None
        return self._groups.setdefault(calibration, (PlaceDeque(), PlaceDeque()))[success]

    def _counts(self) -> NDArray[np.int64]:
        """Return int64[2, R]: examples by outcome and robot."""
        counts = [[len(group) for group in groups] for groups in self._groups.values()]
        return np.array(counts, np.int64).reshape(-1, 2).T

    def _write(self, place: int, episode: Episode, calibration: int) -> None:
        rows = self._rows
        final_pose = episode.final_pose
        self._image[place % rows] = episode.first_image
        self._first[place % rows] = place
        self._calibration[place % rows] = calibration
        self._map[place % rows] = episode.calibration
        self._success[place % rows] = episode.outcome.label == Label.SUCCESS
        for number, step in enumerate(episode.steps, start=1):
            row = (place + number) % rows
            pose = step.observation.pose
            self._image[row] = step.observation.image
            self._first[row] = place
            self._pose[row] = pose.as_array()
            self._action[row] = Action.between(pose, final_pose).as_array()
            self._calibration[row] = calibration
            self._map[row] = episode.calibration
            self._success[row] = self._success[place % rows]

    def _drop_oldest(self) -> None:
        row = self._begin % self._rows
        length = self._lengths.popleft()
        robot = int(self._calibration[row])
        groups = self._groups[robot]
        groups[int(self._success[row])].drop_front(length - 1)
        if not any(map(len, groups)):
            del self._groups[robot]
        self._begin += length
        self._has_dropped = True
        self._balance = None

    def _batch(self, place_B: NDArray[np.int64], added_B: NDArray[np.float32]) -> Batch:
        row_B, first_B = place_B % self._rows, self._first[place_B % self._rows]
        return Batch(
            first_image_BHWC=torch.from_numpy(self._image.take(first_B % self._rows, axis=0)),
            image_BHWC=torch.from_numpy(self._image.take(row_B, axis=0)),
            pose_B4=torch.from_numpy(self._pose[row_B]),
            action_B5=torch.from_numpy(self._action[row_B]),
            calibration_B=torch.from_numpy(self._calibration[row_B]),
            map_B34=torch.from_numpy(self._map[row_B]),
            success_B=torch.from_numpy(self._success[row_B]),
            added_logit_B=torch.from_numpy(added_B),
            attempt_B=torch.from_numpy(first_B),
            place_B=torch.from_numpy(place_B),
        )


def row_bytes(*, height_px: int, width_px: int) -> int:
    """Return what one picture with its facts takes up."""
    return height_px * width_px * 3 + _FACTS_BYTES
