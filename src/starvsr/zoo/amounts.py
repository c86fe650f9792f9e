"""Numbers of bytes and seconds for messages."""

from __future__ import annotations


def format_bytes(count: float) -> str:
    """`8200000000` as `8.20 GB`, `609` as `609 bytes`; powers of 1000, as on disks and the hub."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:#.3g}".removesuffix(".") + f" {unit}"
    return f"{count:.0f} bytes"


def format_seconds(seconds: float) -> str:
    """`73.4` as `1:13`, `3700` as `1:01:40`."""
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
