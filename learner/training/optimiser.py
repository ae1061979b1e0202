"""AdamW, ready for its first step a second sooner."""

from __future__ import annotations

from inspect import unwrap

import torch
from torch.optim import AdamW


class PromptAdamW(AdamW):
    """torch's AdamW, step by step the same, that does not load torch's compiler.

    Each of these is wrapped by torch in what keeps ``torch.compile`` from tracing it, and that
    loads the compiler's 800 modules for longer than Ray takes to start the trainer anew. A network
    may be compiled all the same: its optimiser is called outside of it.
    """

    add_param_group = unwrap(AdamW.add_param_group)
    load_state_dict = unwrap(AdamW.load_state_dict)
    state_dict = unwrap(AdamW.state_dict)
    zero_grad = unwrap(AdamW.zero_grad)
    step = torch.no_grad()(unwrap(AdamW.step))
