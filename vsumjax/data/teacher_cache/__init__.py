"""What a teacher says about every example, on disk."""
