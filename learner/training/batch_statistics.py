"""Batch normalisation's statistics of averaged weights, which no batch has ever gone through.

The moving average of the weights is a network of its own: its activations have other means and
variances than those that the network in training counted on its way. Before the average is judged
or released they are measured on it (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima
and Better Generalization", section 3.2). A network without batch normalisation has none.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from learner.training.batch import Batch
from learner.training.learned import Learned

BATCHES, BATCH_SIZE = 20, 32
"""What statistics are measured on."""

Draw = Callable[[int], Batch]
"""Returns one of the batches, by its number."""


def has_statistics(network: nn.Module) -> bool:
    """Say whether a network normalises by what it has counted."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())


def measure_statistics(averaged: Learned, draw: Draw) -> None:
    """Replace the statistics by those of these weights; without any, nothing is drawn.

    Args:
        averaged: what is to be judged or released; nothing else of it changes.
        draw: gives training examples, never held-out ones.
    """
    averaged.eval()
    update_bn(map(draw, range(BATCHES)), _Counting(averaged).eval(), averaged.device)


class _Counting(nn.ModuleList):
    """The layers that count, to whoever sets them counting: dropout stays off, and draws nothing.

    It would add to the variances, and take random numbers from the steps.
    """

    def __init__(self, averaged: Learned) -> None:
        super().__init__(layer for layer in averaged.modules() if isinstance(layer, _BatchNorm))
        self._predict = averaged.forward

    def forward(self, batch: Batch) -> Tensor:
        """Predict for a batch, and count."""
        return self._predict(batch)
