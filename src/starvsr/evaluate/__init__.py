"""Measuring video files: pairing, metrics of a pair, reports, and a comparison page."""
