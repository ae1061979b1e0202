"""What robots and learner must agree on; imports nothing else of GraspFleet."""
