"""Decoded examples in memory, bounded: the oldest go first, and no robot crowds out others."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field

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
SILENT_S = 7 * 86_400.0
"""A robot that has added nothing for so long makes room before all others."""


@dataclass(kw_only=True, slots=True)
class _OfRobot:
    """What is held of one robot, oldest first."""

    attempts: deque[NDArray[np.int64]] = field(default_factory=deque)
    """The rows of each: that of the bin without the hand, then one for each step."""
    rows: int = 0
    steps: tuple[PlaceDeque, PlaceDeque] = field(
        default_factory=lambda: (PlaceDeque(), PlaceDeque())
    )
    """Rows of steps, of failures and of successes."""
    has_dropped: bool = False
    heard_s: float = field(default_factory=time.monotonic)
    """When it last added something."""


class ExampleSet:
    """Examples of one kind, for training or held out. Any thread may add or draw.

    A row holds one picture. An attempt takes a row for the bin without the hand and one for each
    of its steps. An example's *place* counts rows from the first attempt that came, downwards for
    older ones, so that it names the example for ever; its row is used again when it has gone.

    When the set is full, a robot that has an equal share of it makes room by its own oldest
    attempt; for others, whoever has most does. However fast one robot delivers, the others keep
    what they have, up to an equal share, unless they have been silent for a week.
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
        self._place = np.empty(rows, np.int64)
        self._first = np.empty(rows, np.int64)
        self._pose = np.empty((rows, 4), np.float32)
        self._action = np.empty((rows, 5), np.float32)
        self._calibration = np.empty(rows, np.int64)
        self._map = np.empty((rows, 3, 4), np.float32)
        self._success = np.empty(rows, np.float32)
        self._begin = self._end = 0
        self._fresh = 0
        """Rows that have been used: the first ones."""
        self._free: list[int] = []
        """Those of them that are free again."""
        self._attempts = 0
        self._robots: dict[str, _OfRobot] = {}
        self._balance: Balance | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._used - self._attempts

    @property
    def attempts(self) -> int:
        """How many attempts the examples are of."""
        return self._attempts

    @property
    def size_bytes(self) -> int:
        """What the examples take up."""
        return self._used * self._row_bytes

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
        """Add every step of a finished attempt as its robot's newest; older ones make room for it.

        An attempt that would not fit alone is left out: ``replay_of`` sees to it that only sets
        for hardly anything held out are so small.
        """
        needed = len(episode.steps) + 1
        if needed > self._rows:
            return
        with self._lock:
            while self._rows - self._used < needed:
                self._drop_oldest_of(self._giver(episode.robot_id))
            self._end += needed
            rows = self._write(self._end - needed, episode, calibration)
            robot = self._robot(episode.robot_id, needed)
            robot.heard_s = time.monotonic()
            # Last in order: the first one is that which has been silent longest.
            self._robots[episode.robot_id] = self._robots.pop(episode.robot_id)
            robot.attempts.append(rows)
            for row in rows[1:]:
                robot.steps[int(self._success[row])].append(row)

    def add_older(self, episode: Episode, calibration: int) -> bool:
        """Add every step of a finished attempt as its robot's oldest; False if it is not wanted.

        See ``wants_older``.
        """
        needed = len(episode.steps) + 1
        with self._lock:
            if not self._wants_older(episode.robot_id, needed):
                return False
            while self._rows - self._used < needed:
                self._drop_oldest_of(self._largest())
            self._begin -= needed
            rows = self._write(self._begin, episode, calibration)
            robot = self._robot(episode.robot_id, needed)
            robot.attempts.appendleft(rows)
            for row in rows[:0:-1]:
                robot.steps[int(self._success[row])].append_front(row)
        return True

    def wants_older(self, robot_id: str) -> bool:
        """Say whether attempts older than all of this robot's are of use.

        They are not once one of its own has gone, which may have been newer; nor, when the set is
        full, once it has an equal share.
        """
        with self._lock:
            return self._wants_older(robot_id, 1)

    def drop_to(self, attempts: int) -> None:
        """Keep this many attempts; the oldest go of the robots that have most."""
        with self._lock:
            while self._attempts > attempts:
                self._drop_oldest_of(self._largest())

    def sample(self, count: int, rng: np.random.Generator) -> Batch:
        """Return ``count`` examples: half of each outcome, of every robot alike (see balance)."""
        with self._lock:
            robots = list(self._robots.values())
            if self._balance is None:
                self._balance = balanced(self._counts(), self._most_repeats)
            balance = self._balance
            present = [o for o in (0, 1) if balance.share_OR[o].any()]
            sizes = [count // len(present)] * len(present)
            if left := count - sum(sizes):
                sizes[rng.integers(len(sizes))] += left
            rows, added = [], []
            for outcome, size in zip(present, sizes, strict=True):
                drawn_R = rng.multinomial(size, balance.share_OR[outcome])
                for robot in np.flatnonzero(drawn_R):
                    steps = robots[robot].steps[outcome]
                    rows.append(steps.at(rng.integers(len(steps), size=drawn_R[robot])))
                added.append(balance.added_logit_R.repeat(drawn_R))
            return self._batch(np.concatenate(rows), np.concatenate(added))

    def newest(self, limit: int) -> Batch:
        """Return the newest examples of every robot in turn, ``limit`` at most, as they came."""
        with self._lock:
            lately = sorted(
                self._robots.values(),
                key=lambda one: self._place[one.attempts[-1][0]],
                reverse=True,
            )
            turns = itertools.zip_longest(*(reversed(one.attempts) for one in lately))
            found, count = [np.empty(0, np.int64)], 0
            for attempt in itertools.chain.from_iterable(turns):
                if count >= limit:
                    break
                if attempt is not None:
                    found.append(attempt[1:])
                    count += len(attempt) - 1
            row_B = np.concatenate(found)[:limit]
            row_B = row_B[np.argsort(self._place[row_B])]
            return self._batch(row_B, np.zeros(len(row_B), np.float32))

    @property
    def _used(self) -> int:
        return self._fresh - len(self._free)

    def _wants_older(self, robot_id: str, needed: int) -> bool:
        own = self._robots.get(robot_id, _OfRobot())
        if own.has_dropped:
            return False
        robots = len(self._robots.keys() | {robot_id})
        has_room = self._rows - self._used >= needed
        return has_room or (own.rows + needed) * robots <= self._rows

    def _robot(self, robot_id: str, needed: int) -> _OfRobot:
        """Return what is held of a robot, with an attempt more of so many rows."""
        robot = self._robots.setdefault(robot_id, _OfRobot())
        robot.rows += needed
        self._attempts += 1
        self._balance = None
        return robot

    def _counts(self) -> NDArray[np.int64]:
        """Return int64[2, R]: examples by outcome and robot."""
        counts = [[len(steps) for steps in robot.steps] for robot in self._robots.values()]
        return np.array(counts, np.int64).reshape(-1, 2).T

    def _take_rows(self, count: int) -> NDArray[np.int64]:
        again = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = count - len(again)
        self._fresh += fresh
        return np.array([*again, *range(self._fresh - fresh, self._fresh)], np.int64)

    def _write(self, place: int, episode: Episode, calibration: int) -> NDArray[np.int64]:
        """Write an attempt, of which the first picture gets this place; return its rows."""
        rows = self._take_rows(len(episode.steps) + 1)
        final_pose = episode.final_pose
        self._place[rows] = np.arange(place, place + len(rows))
        self._first[rows] = rows[0]
        self._calibration[rows] = calibration
        self._map[rows] = episode.calibration
        self._success[rows] = episode.outcome.label == Label.SUCCESS
        self._image[rows[0]] = episode.first_image
        for row, step in zip(rows[1:], episode.steps, strict=True):
            pose = step.observation.pose
            self._image[row] = step.observation.image
            self._pose[row] = pose.as_array()
            self._action[row] = Action.between(pose, final_pose).as_array()
        return rows

    def _giver(self, robot_id: str) -> str:
        """Return whose oldest attempt makes room for one of this robot."""
        quietest, held = next(iter(self._robots.items()))
        if time.monotonic() - held.heard_s > SILENT_S:
            return quietest
        own = self._robots.get(robot_id)
        has_share = own is not None and own.rows * len(self._robots) >= self._used
        return robot_id if has_share else self._largest()

    def _largest(self) -> str:
        return max(self._robots, key=lambda robot_id: self._robots[robot_id].rows)

    def _drop_oldest_of(self, robot_id: str) -> None:
        robot = self._robots[robot_id]
        rows = robot.attempts.popleft()
        robot.steps[int(self._success[rows[0]])].drop_front(len(rows) - 1)
        robot.rows -= len(rows)
        if not robot.attempts:
            del self._robots[robot_id]
        self._free.extend(rows.tolist())
        self._attempts -= 1
        robot.has_dropped = True
        self._balance = None

    def _batch(self, row_B: NDArray[np.int64], added_B: NDArray[np.float32]) -> Batch:
        first_B = self._first[row_B]
        return Batch(
            first_image_BHWC=torch.from_numpy(self._image.take(first_B, axis=0)),
            image_BHWC=torch.from_numpy(self._image.take(row_B, axis=0)),
            pose_B4=torch.from_numpy(self._pose[row_B]),
            action_B5=torch.from_numpy(self._action[row_B]),
            calibration_B=torch.from_numpy(self._calibration[row_B]),
            map_B34=torch.from_numpy(self._map[row_B]),
            success_B=torch.from_numpy(self._success[row_B]),
            added_logit_B=torch.from_numpy(added_B),
            attempt_B=torch.from_numpy(self._place[first_B]),
            place_B=torch.from_numpy(self._place[row_B]),
        )


def row_bytes(*, height_px: int, width_px: int) -> int:
    """Return what one picture with its facts takes up."""
    return height_px * width_px * 3 + _FACTS_BYTES
