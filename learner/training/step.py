"""The training step: fit the Q-function and the hand-eye maps to grasp labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from learner.config import TrainingConfig
from learner.networks import GraspNetwork
from learner.training.batch import Batch
from learner.training.batch_statistics import BATCHES
from learner.training.example_set import ExampleSet
from learner.training.learned import Learned
from learner.training.optimiser import PromptAdamW
from learner.training.random_streams import Stream, generator, seed_torch
from learner.training.snapshot import Snapshot
from learner.training.team import Team
from protocol.errors import TrainingDivergedError

# B batch

POSE_JITTER_M = 0.0025
"""Final poses are blurred by this much in training, standard deviation."""
YAW_JITTER_RAD = 0.05
MAP_LEARNING_RATE = 2.0
"""Of the hand-eye corrections, relative to the network's."""


class Training:
    """Network, optimiser and moving average, and the one step that advances them."""

    def __init__(
        self,
        network: GraspNetwork,
        config: TrainingConfig,
        *,
        seed: int,
        team: Team | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Begin with the network's weights.

        Args:
            network: what is trained; its weights change in place.
            config: rates and sizes.
            seed: of all that steps draw at random.
            team: the workers that train together; this one alone by default.
            device: where to train; the CPU by default.
        """
        self.config = config
        self.seed = seed
        self.team = team or Team()
        self.device = device or torch.device("cpu")
        self.learned = Learned(network).to(self.device)
        self.average = AveragedModel(self.learned, avg_fn=_average_with(config))
        if config.compile:
            network.compile()  # in place; what is copied from it is not
        self.averaged.refiner.share_robots(self.learned.refiner)
        self.optimiser = PromptAdamW(
            [
                {"params": network.parameters(), "weight_decay": config.weight_decay},
                {"params": self.learned.refiner.parameters(), "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
        )
        self.loss = float("nan")
        """Of the last step."""
        self.step_count = 0
        self.examples_seen = 0

    @property
    def own_batch_size(self) -> int:
        """Examples that this worker contributes to a step."""
        return self.team.part_of(self.config.batch_size)

    def sample(
        self, examples: ExampleSet, step: int, count: int, stream: Stream = Stream.SAMPLES
    ) -> Batch:
        """Return ``count`` examples as this worker draws them for a step."""
        return examples.sample(count, generator(self.seed, stream, step, self.team.rank))

    def sample_aside(self, examples: ExampleSet, step: int, number: int, count: int) -> Batch:
        """Return ``count`` examples of batch ``number`` for statistics; steps draw others."""
        return self.sample(examples, BATCHES * step + number, count, Stream.STATISTICS)

    def step(self, batch: Batch) -> float:
        """Take one optimiser step on this worker's part of a batch; return the loss on all of it.

        Raises:
            TrainingDivergedError: loss or gradient is not finite; no weight was changed.
        """
        seed_torch(self.seed, self.step_count, self.team.rank)
        batch = batch.to(self.device)
        self._set_learning_rate()
        self.learned.train()
        refiner = self.learned.refiner
        self._begin_anew(refiner.give_rows(self.team))
        refiner.note_trained(self.team, batch.calibration_B)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.bfloat16):
            logit_B = self._augmented_logits(batch).float()
        # Batches hold both outcomes in equal parts. Putting the log-odds that this added into
        # the logit keeps the released probabilities calibrated (King & Zeng 2001).
        loss = functional.binary_cross_entropy_with_logits(
            logit_B + batch.added_logit_B, batch.success_B
        )
        self.optimiser.zero_grad(set_to_none=True)
        (loss + refiner.prior_loss()).backward()  # type: ignore[no-untyped-call]
        mean_loss = self.team.average(self.learned.parameters(), loss.detach())
        norm = nn.utils.clip_grad_norm_(self.learned.parameters(), 1.0)
        if not (math.isfinite(mean_loss) and torch.isfinite(norm)):
            raise TrainingDivergedError(
                f"step {self.step_count}: loss {mean_loss}, gradient {norm.item()}"
            )
        self.optimiser.step()
        self.average.update_parameters(self.learned)
        self.step_count += 1
        self.examples_seen += self.config.batch_size
        self.loss = mean_loss
        return mean_loss

    def snapshot(self) -> Snapshot:
        """Return a copy of what there is to release now.

        Its batch normalisation still has the statistics of the network in training: see
        ``batch_statistics``.
        """
        return Snapshot(
            averaged=self.averaged.copied(),
            step_count=self.step_count,
            examples_seen=self.examples_seen,
        )

    @property
    def averaged(self) -> Learned:
        """The moving average, which is what gets released."""
        module = self.average.module
        assert isinstance(module, Learned)
        return module

    def _begin_anew(self, rows: list[int]) -> None:
        """Forget what was learned in rows that have gone to other calibrations."""
        correction = self.learned.refiner.correction_R24
        moments = [self.optimiser.state[correction].get(name) for name in ("exp_avg", "exp_avg_sq")]
        with torch.no_grad():
            for tensor in (correction, self.averaged.refiner.correction_R24, *moments):
                if rows and tensor is not None:
                    tensor[rows] = 0.0

    def _augmented_logits(self, batch: Batch) -> Tensor:
        count = len(batch)
        rng = generator(self.seed, Stream.VARIATIONS, self.step_count, self.team.rank)
        jitter_B3 = torch.from_numpy(rng.standard_normal((count, 3), np.float32))
        turn_B = torch.from_numpy(rng.standard_normal(count, np.float32)) * YAW_JITTER_RAD
        action_B5 = _turned(batch.action_B5, turn_B.to(self.device))
        action_B5[:, :3] += jitter_B3.to(self.device) * POSE_JITTER_M
        return self.learned.network.augmented(
            batch.first_image_BHWC,
            batch.image_BHWC,
            batch.pose_B4,
            self.learned.refiner(batch.calibration_B, batch.map_B34),
            action_B5,
            rng,
        )

    def _set_learning_rate(self) -> None:
        config = self.config
        progress = min(1.0, self.examples_seen / config.decay_examples)
        blend = 0.5 * (1 + math.cos(math.pi * progress))
        rate = config.final_learning_rate + blend * (
            config.learning_rate - config.final_learning_rate
        )
        weights, corrections = self.optimiser.param_groups
        weights["lr"], corrections["lr"] = rate, rate * MAP_LEARNING_RATE


def _turned(action_B5: Tensor, turn_B: Tensor) -> Tensor:
    sin_B, cos_B = turn_B.sin(), turn_B.cos()
    s, c = action_B5[:, 3], action_B5[:, 4]
    rotated = torch.stack([s * cos_B + c * sin_B, c * cos_B - s * sin_B], dim=1)
    return torch.cat([action_B5[:, :3], rotated], dim=1)


def _average_with(
    config: TrainingConfig,
) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        # Short memory at first, so that the first releases are not made of the initial weights.
        decay = min(config.average_decay, (1 + float(count)) / (10 + float(count)))
        return averaged.lerp(current, 1 - decay)

    return average
