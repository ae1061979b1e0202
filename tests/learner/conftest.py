"""One thread for torch: tests run beside other processes, and sums keep their order."""

import torch

torch.set_num_threads(1)
