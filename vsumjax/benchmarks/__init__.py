"""What `launch/benchmark.py NAME` measures, one module each."""
