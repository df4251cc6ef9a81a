"""State, objective, step, checkpoints and the loop of the one trainer."""
