"""Measuring video files: which belong together, the figures of a pair, reports, and a page that compares two."""
