"""What is learnt, and by which loss: one module or folder a task; see `types.Task`."""
