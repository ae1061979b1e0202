"""How a robot comes by the learner's releases, and which of them it may use."""
