"""Checkpoints in and out: big_vision npz, ours (Orbax) and Hugging Face directories."""
