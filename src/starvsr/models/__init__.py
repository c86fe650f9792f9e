"""The networks, and the device that they run on. `zoo` handles the weights.

Open `unet.py` first for STAR, `recurrent.py` for `nano`, `network.py` for what they share.
"""
