"""What ``robot-agent calibrate`` measures, and how: joints, gripper, and the hand-eye map."""
