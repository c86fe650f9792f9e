"""Training: degradation of clips, objectives and the trainer."""
