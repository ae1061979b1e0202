"""What all jointed arms share: the motion of their joints, their calibration, their limits."""
