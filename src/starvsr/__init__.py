"""starvsr: upscale real videos of any length with STAR."""

__version__ = "0.1.0"
