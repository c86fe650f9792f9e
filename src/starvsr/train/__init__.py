"""Training: degradations, data, losses, and the loop.

Open `trainer.py` first, and `config.py` for what a run's TOML file may contain.
"""
