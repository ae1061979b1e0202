"""The robot's end of the data path: episodes on its disk until the learner has them."""
