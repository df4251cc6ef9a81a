"""What a launch script runs: one module a job, each a function of paths and options."""
