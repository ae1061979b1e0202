"""What training has come to at one step: for whoever judges or releases it while steps go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from learner.training.calibration_error import calibration_error
from learner.training.example_set import ExampleSet
from learner.training.learned import Learned
from learner.training.map_doubts import map_doubts
from learner.training.roc import area_under_curve

HELD_OUT_LIMIT, HELD_OUT_PER_ROBOT = 2048, 100
"""Held-out examples evaluated at a time: so many, and more of them in a large fleet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """What held-out examples say of the moving average."""

    figures: Mapping[str, float] = field(default_factory=dict)
    """Loss, AUC and calibration; none where nothing is held out."""
    map_doubts: Mapping[int, str] = field(default_factory=dict)
    """By key of the calibration: why a hand-eye map is doubted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The moving average, which is what gets released, with the steps behind it."""

    averaged: Learned
    step_count: int
    examples_seen: int

    @torch.inference_mode()
    def evaluate(self, examples: ExampleSet) -> HeldOut:
        """Return what held-out examples say of it."""
        if not len(examples):
            return HeldOut()
        refiner = self.averaged.refiner
        self.averaged.eval()
        batch = examples.newest(max(HELD_OUT_LIMIT, HELD_OUT_PER_ROBOT * len(refiner.known())))
        logit_B = self.averaged(batch.to(self.averaged.device)).float().cpu()
        loss = functional.binary_cross_entropy_with_logits(logit_B, batch.success_B)
        doubts = map_doubts(logit_B, batch.success_B, batch.calibration_B)
        figures = {
            "held_out_loss": float(loss),
            "held_out_calibration_error": calibration_error(logit_B, batch.success_B),
        }
        auc = area_under_curve(logit_B, batch.success_B)
        if auc is not None:
            figures["held_out_auc"] = auc
        # What is no number may not stand in a manifest, and would keep every release back.
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        return HeldOut(figures=finite, map_doubts=doubts)
