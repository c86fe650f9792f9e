"""How fast this machine is: its ceilings, a network's calls and layers, a whole job.

Open `run.py` first.
"""
