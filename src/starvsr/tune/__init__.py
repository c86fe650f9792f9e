"""Which settings a video would take on this machine, and why: `starvsr tune`.

Open `run.py` first. It measures (`measure.py`), asks the tables of `rules.py`, and tries what they say.
"""
