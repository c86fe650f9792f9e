"""Frames in, restored frames out: resizing, latents, sampling over windows, colours. No files and no command line.

Open `restorer.py` first: `Restorer.restore` is the whole pipeline, step by step.
"""
