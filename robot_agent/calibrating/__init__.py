"""What ``robot-agent calibrate`` measures: joints, gripper, and the hand-eye map by a board."""
