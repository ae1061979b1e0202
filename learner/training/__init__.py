"""Training: replay, the step, checkpoints, and the loop that publishes what was learned."""
