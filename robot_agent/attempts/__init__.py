"""One grasp attempt, and what is judged and noticed by it."""
