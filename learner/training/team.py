"""The workers that train one network together, each on its own part of every batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """Who trains: one worker alone, or several in lockstep through torch.distributed."""

    rank: int = 0
    size: int = 1

    def part_of(self, count: int) -> int:
        """Return this worker's part of ``count``, a multiple of the team's size."""
        return count // self.size

    def average(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> float:
        """Replace gradients by their mean over the team; return the mean loss.

        One tensor goes around for all: a step has a few dozen small gradients, and each message
        has a price. The module stays unwrapped, so that a checkpoint fits any number of workers.
        """
        if self.size == 1:
            return float(loss)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([loss.reshape(1), *(g.reshape(-1) for g in gradients)])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        pieces = torch.split(flat[1:], [g.numel() for g in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))
        return float(flat[0])

    def least(self, number: int) -> int:
        """Return the smallest of the workers' numbers. All of them must ask."""
        if self.size == 1:
            return number
        answer = torch.tensor([number])
        torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MIN)
        return int(answer[0])

    def everyones(self, own: T) -> list[T]:
        """Return what each worker gave, by rank. All of them must ask."""
        found: list[T] = [own] * self.size
        if self.size > 1:
            # Between workers of one training, which trust each other as Ray's own messages do.
            torch.distributed.all_gather_object(found, own)
        return found
