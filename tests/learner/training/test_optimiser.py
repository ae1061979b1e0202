"""The optimiser: torch's own, without the second that torch's compiler takes to load."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from learner.training.optimiser import PromptAdamW

FIRST_STEP = """
import sys, torch
from learner.training.optimiser import PromptAdamW
weight = torch.nn.Parameter(torch.ones(3))
optimiser = PromptAdamW([weight])
optimiser.load_state_dict(optimiser.state_dict())
weight.sum().backward()
optimiser.step()
optimiser.zero_grad()
print(torch.__version__, "torch._dynamo" in sys.modules)
"""


def weights_after(kind: type[AdamW], steps: int) -> list[Tensor]:
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    optimiser = kind([{"params": network.parameters(), "weight_decay": 0.1}], lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        network(torch.randn(5, 4)).square().mean().backward()
        optimiser.step()
    return [weight.detach() for weight in network.parameters()]


def test_its_steps_are_those_of_torch_to_the_last_bit():
    for ours, theirs in zip(weights_after(PromptAdamW, 5), weights_after(AdamW, 5), strict=True):
        assert torch.equal(ours, theirs)


def test_the_first_step_does_not_load_the_compiler():
    command = [sys.executable, "-c", FIRST_STEP]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert said == [torch.__version__, "False"]
