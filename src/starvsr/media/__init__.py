"""Video files in and out: what a file contains, decoding, encoding, and everything that travels beside the pictures.

Open `probe.py` and `index.py` first for reading, `join.py` for writing.
"""
