"""The networks, and the device that they run on. Weights are someone else's business (`zoo`).

Open `unet.py` first for STAR, `recurrent.py` for `nano`, `network.py` for what they share.
"""
