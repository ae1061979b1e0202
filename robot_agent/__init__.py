"""One robot's process: look, predict, move, close, lift, label, send."""
