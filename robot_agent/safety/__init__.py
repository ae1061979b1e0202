"""What keeps a robot, and the people around it, from harm."""
