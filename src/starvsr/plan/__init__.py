"""What a job will do, decided before any weight is loaded: sizes, segments, windows, memory. Integers only, no torch.

Open `plan.py` first: `make_plan` puts together what the other modules compute.
"""
