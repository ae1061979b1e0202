"""What a robot decides with: the Q-function of a release, and the search over it."""
