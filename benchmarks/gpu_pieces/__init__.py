"""What `benchmarks/gpu.py` measures: a module for each piece, and what they share."""
