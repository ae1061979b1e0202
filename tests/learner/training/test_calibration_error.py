"""The calibration error, against what is known of made-up predictions."""

from __future__ import annotations

import pytest
import torch

from learner.training.calibration_error import calibration_error


def drawn(count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits, and outcomes as likely as they say."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, generator=generator)
    success = torch.rand(count, generator=generator) < torch.sigmoid(logits)
    return logits, success.float()


def test_predictions_that_hold_what_they_say_have_hardly_any_error():
    assert calibration_error(*drawn()) < 0.01


def test_predictions_that_are_too_sure_have_one():
    logits, success = drawn()
    assert calibration_error(3 * logits, success) > 0.05


def test_what_is_always_promised_and_never_happens_is_wholly_wrong():
    assert calibration_error(torch.full((7,), 50.0), torch.zeros(7)) == pytest.approx(1.0)


def test_a_prediction_that_is_right_on_average_alone_is_not_calibrated():
    logits, success = drawn()
    assert calibration_error(-logits, success) > 0.3
