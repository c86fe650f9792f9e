"""How good a video is: frames in, one figure per frame out; no files are read here. Definitions: `docs/metrics.md`."""
