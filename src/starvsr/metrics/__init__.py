"""Video quality: frames in, one score per frame out; no files are read here. Definitions: `docs/metrics.md`."""
