"""Frames in, scores out; no files.

Open `registry.py` first: every metric by name.
"""
