"""Models as files: downloaded, verified, converted, loaded.

Open `load.py` first: from a model's name to a network that is ready to run.
"""
