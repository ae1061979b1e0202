"""Decoded training examples in memory, sampled in balance between outcomes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocol.episode import Action, Episode, Label
from protocol.errors import RejectedEpisodeError

# B batch, H image rows, W image columns

_FIRST_CAPACITY = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Training examples: one per step of an attempt (Levine et al. 2016, section IV-A)."""

    first_image_BHWC: Tensor
    """uint8: the bin without the hand."""
    image_BHWC: Tensor
    """uint8: the bin at the step."""
    pose_B4: Tensor
    """float32: measured pose at the step; metres, radians."""
    action_B5: Tensor
    """float32: from there to the commanded pose at which the gripper closed."""
    robot_B: Tensor
    """int64: index of the robot's hand-eye map."""
    success_B: Tensor
    """float32: 1 or 0, the label of the attempt."""
    attempt_B: Tensor
    """int64: the same number for all steps of one attempt."""

    def __len__(self) -> int:
        return len(self.success_B)


class _Rows:
    """An array that grows by doubling; numpy touches the memory only when it is written."""

    def __init__(self, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._data: NDArray[np.generic] = np.empty((_FIRST_CAPACITY, *shape), dtype)
        self._count = 0

    def append(self, row: NDArray[np.generic] | float) -> int:
        if self._count == len(self._data):
            grown = np.empty((2 * self._count, *self._data.shape[1:]), self._data.dtype)
            grown[: self._count] = self._data
            self._data = grown
        self._data[self._count] = row
        self._count += 1
        return self._count - 1

    def __len__(self) -> int:
        return self._count

    def take(self, index: NDArray[np.int64]) -> NDArray[np.generic]:
        taken: NDArray[np.generic] = self._data[: self._count].take(index, axis=0)
        return taken


class ExampleSet:
    """Examples of one kind: for training, or held out.

    One thread may add while another samples: rows are written before their index is shown.
    """

    def __init__(self, *, height_px: int, width_px: int) -> None:
        self._images = _Rows((height_px, width_px, 3), np.uint8)
        self._first = _Rows((), np.int64)
        self._image = _Rows((), np.int64)
        self._pose = _Rows((4,), np.float32)
        self._action = _Rows((5,), np.float32)
        self._robot = _Rows((), np.int64)
        self._success = _Rows((), np.float32)
        self._by_outcome = (_Rows((), np.int64), _Rows((), np.int64))

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._by_outcome)

    @property
    def success_share(self) -> float:
        """Share of examples that belong to successful attempts; 0.5 while there is none."""
        failed, succeeded = (len(rows) for rows in self._by_outcome)
        return succeeded / (failed + succeeded) if failed + succeeded else 0.5

    def add(self, episode: Episode, robot_index: int) -> None:
        """Add every step of a finished attempt."""
        final_pose = episode.final_pose
        success = int(episode.outcome.label == Label.SUCCESS)
        first = self._images.append(episode.first_image)
        for step in episode.steps:
            observation = step.observation
            action = Action.between(observation.pose, final_pose)
            self._image.append(self._images.append(observation.image))
            self._pose.append(observation.pose.as_array())
            self._action.append(action.as_array())
            self._robot.append(robot_index)
            self._success.append(success)
            self._by_outcome[success].append(self._first.append(first))

    def sample(self, count: int, rng: np.random.Generator) -> Batch:
        """Return ``count`` examples, half of them of each outcome where there are both."""
        halves = [rows for rows in self._by_outcome if len(rows)]
        sizes = [count // len(halves)] * (len(halves) - 1)
        sizes.append(count - sum(sizes))
        index = np.concatenate(
            [
                rows.take(rng.integers(len(rows), size=size)).astype(np.int64)
                for rows, size in zip(halves, sizes, strict=True)
            ]
        )
        success = np.repeat([float(rows is self._by_outcome[1]) for rows in halves], sizes)
        return self._batch(index, success.astype(np.float32))

    def newest(self, limit: int) -> Batch:
        """Return the newest examples, ``limit`` at most, as they came."""
        return self.at(self.newest_indices(limit))

    def newest_indices(self, limit: int) -> NDArray[np.int64]:
        """Return where the newest examples are, ``limit`` at most; they never move."""
        return np.arange(max(0, len(self) - limit), len(self), dtype=np.int64)

    def at(self, index: NDArray[np.int64]) -> Batch:
        """Return the examples at these places."""
        return self._batch(index, self._success.take(index).astype(np.float32))

    def _batch(self, index: NDArray[np.int64], success: NDArray[np.float32]) -> Batch:
        first = self._first.take(index).astype(np.int64)
        image = self._image.take(index).astype(np.int64)
        return Batch(
            first_image_BHWC=torch.from_numpy(self._images.take(first)),
            image_BHWC=torch.from_numpy(self._images.take(image)),
            pose_B4=torch.from_numpy(self._pose.take(index)),
            action_B5=torch.from_numpy(self._action.take(index)),
            robot_B=torch.from_numpy(self._robot.take(index)),
            success_B=torch.from_numpy(success),
            attempt_B=torch.from_numpy(first),
        )


class Replay:
    """Every labelled attempt of the fleet, split into training and held-out examples."""

    def __init__(self, *, height_px: int, width_px: int, held_out_fraction: float) -> None:
        self.training = ExampleSet(height_px=height_px, width_px=width_px)
        self.held_out = ExampleSet(height_px=height_px, width_px=width_px)
        self._size_px = (height_px, width_px)
        self.attempts = 0
        """Labelled attempts added so far."""
        self._held_out_fraction = held_out_fraction

    def add(self, episode: Episode, robot_index: int) -> None:
        """Add an attempt; aborted ones teach nothing and are left out.

        Raises:
            RejectedEpisodeError: its pictures are of another size; nothing was added.
        """
        self._check_size(episode)
        if episode.outcome.label == Label.ABORTED or not episode.steps:
            return
        chosen = self.held_out if self._is_held_out(episode) else self.training
        chosen.add(episode, robot_index)
        self.attempts += 1

    def _check_size(self, episode: Episode) -> None:
        found = episode.first_image.shape[:2]
        if found != self._size_px:
            raise RejectedEpisodeError(
                f"episode {episode.episode_id} of {episode.robot_id}: pictures of {found[0]} x "
                f"{found[1]} px (height, width), the learner is configured for "
                f"{self._size_px[0]} x {self._size_px[1]}"
            )

    def _is_held_out(self, episode: Episode) -> bool:
        # By the episode's own id, so that a restarted learner makes the same choice.
        draw = int.from_bytes(hashlib.sha256(episode.episode_id.encode()).digest()[:8], "big")
        return draw < self._held_out_fraction * 2**64
