"""The training side: what degrades clips, and what a network is trained to."""
