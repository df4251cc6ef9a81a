"""What the TPU compiler tells without a TPU: programs for named slices, their memory and time."""
