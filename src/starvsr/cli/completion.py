"""What a shell offers for a value; nothing means that the shell completes files. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import typer

from starvsr.specs import SPECS

METRICS = (
    *("psnr_y", "ssim_y", "vmaf", "vmaf_neg", "niqe", "brisque", "e_warp", "tof"),
    *("lpips", "dists", "musiq", "clip_iqa"),
)
"""As in `metrics.registry`, which imports torch."""

_CODECS = (
    *("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", "dnxhd", "mjpeg"),
    *("png", "h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_videotoolbox", "hevc_videotoolbox"),
)
_PIXEL_FORMATS = (
    *("auto", "compatible", "source", "yuv420p", "yuv422p", "yuv444p", "yuv420p10le"),
    *("yuv422p10le", "yuv444p10le", "gbrp", "gbrp10le", "gbrp16le"),
)
_AUDIO = ("copy", "none", "aac", "libopus", "flac", "alac", "ac3", "libmp3lame", "pcm_s16le")

Completion = Callable[[str], list[str]]


def completing(*names: str) -> Completion:
    """What a shell offers for a value that is one of these names or something else, such as a path."""
    return lambda incomplete: _matching(names, incomplete)


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


models = completing("auto", *SPECS)
benched_models = completing(*SPECS)
devices = completing("auto", "cpu", "cuda", "mps")
metric_devices = completing("cpu", "cuda", "mps")
resolutions = completing("720p", "1080p", "1440p", "4k", "8k")
pixel_formats = completing(*_PIXEL_FORMATS)
audio = completing(*_AUDIO)
clusters = completing("auto")


def codecs(incomplete: str) -> list[str]:
    """The usual video encoders of this libav build, or if none begins so, all that do."""
    import av

    usual = [name for name in _CODECS if name in av.codecs_available]
    return _matching(("auto", *usual), incomplete) or _matching(_every_encoder(), incomplete)


def _every_encoder() -> Sequence[str]:
    import av

    found = []
    for name in sorted(av.codecs_available):
        try:
            kind = av.Codec(name, "w").type
        except ValueError:
            # Only a decoder.
            continue
        if kind == "video":
            found.append(name)
    return found


def presets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Those of the encoder of `--codec`, where it stands before."""
    from starvsr.media.limits import presets_of

    codec = ctx.params.get("codec") or "auto"
    return _matching(presets_of("libx264" if codec == "auto" else codec), incomplete)


def hwaccels(incomplete: str) -> list[str]:
    """The kinds of devices for which this libav build can decode."""
    from av.codec.hwaccel import hwdevices_available

    return _matching(("none", "auto", *hwdevices_available()), incomplete)


def metrics(incomplete: str) -> list[str]:
    """One more metric of a list with commas."""
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    more = [name for name in METRICS if name not in given]
    return [f"{before}{comma}{name}" for name in _matching(more, last)]
