"""What both roles need to train: the plan of a run, its data order, state, checkpoints and stop."""
