"""From joints to the gripper's pose and back: one model file per arm."""
