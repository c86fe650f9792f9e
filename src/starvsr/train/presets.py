"""The named degradations.

`heavy` has the two stages and ranges that STAR's paper names (resize 0.15 to 1.5 and 0.3 to 1.2, noise 1 to 30 and
1 to 25, JPEG 30 to 95, a random codec and bit rate in each); what that leaves out is Real-ESRGAN's (Wang et al.,
2021), and how hard the codecs compress is ours. `light` is a clean reduction and one mild x264. The others are what
people have (`dvd`, `dv`, `vhs`, `film`, `phone`, `web`); their ranges are ours.
"""

from __future__ import annotations

from typing import Any

from starvsr.train.recipes import CodecConfig, DegradationConfig, StageConfig

_HEAVY_CODECS = (
    CodecConfig("libx264", "crf", (20, 36)),
    CodecConfig("libx264", "bits_per_pixel", (0.05, 0.5)),
    CodecConfig("libx265", "crf", (22, 38)),
    CodecConfig("mpeg4", "bits_per_pixel", (0.1, 1.0)),
    CodecConfig("mpeg4", "qscale", (2, 14)),
    CodecConfig("mpeg2video", "qscale", (2, 16)),
    CodecConfig("libvpx-vp9", "crf", (25, 50)),
)

# 200 kb/s are 0.08 bits a pixel at 426x240 and 25 frames a second, and 0.035 at 640x360.
_WEB_CODECS = (
    CodecConfig("libx264", "bits_per_pixel", (0.03, 0.15)),
    CodecConfig("libvpx-vp9", "bits_per_pixel", (0.03, 0.12)),
    CodecConfig("mpeg4", "bits_per_pixel", (0.08, 0.3)),
)
# Recorded at the size that is degraded to.
_AT_TARGET: dict[str, Any] = {
    "resize": (1.0, 1.0),
    "resize_of": "target",
    "up_down_keep": (0.0, 0.0, 1.0),
    "modes": ("bicubic-antialias",),
}

PRESETS: dict[str, DegradationConfig] = {
    "light": DegradationConfig(
        stages=(StageConfig(codec=1.0, codecs=(CodecConfig("libx264", "crf", (18, 32)),)),),
        final_modes=("bicubic-antialias",),
    ),
    "heavy": DegradationConfig(
        stages=(
            StageConfig(
                blur=1.0, resize=(0.15, 1.5), noise=1.0, jpeg=1.0, codec=1.0, codecs=_HEAVY_CODECS
            ),
            StageConfig(
                blur=0.8,
                sigma=(0.2, 1.5),
                resize=(0.3, 1.2),
                resize_of="target",
                up_down_keep=(0.3, 0.4, 0.3),
                noise=1.0,
                gaussian_sigma=(1.0, 25.0),
                poisson_scale=(0.05, 2.5),
                jpeg=1.0,
                codec=1.0,
                codecs=_HEAVY_CODECS,
            ),
        ),
        final_sinc=0.8,
        compress_last=0.75,
    ),
    "dvd": DegradationConfig(
        stages=(
            StageConfig(
                blur=0.5,
                sigma=(0.2, 1.0),
                resize=(0.7, 1.0),
                resize_of="target",
                up_down_keep=(0.0, 0.5, 0.5),
                modes=("bicubic-antialias",),
                fields=0.4,
                noise=0.3,
                gaussian_sigma=(1.0, 6.0),
                poisson_scale=(0.05, 0.5),
                sharpen=0.8,
                codec=1.0,
                codecs=(
                    CodecConfig("mpeg2video", "qscale", (2, 14)),
                    CodecConfig("mpeg2video", "bits_per_pixel", (0.15, 0.8)),
                ),
            ),
        ),
    ),
    "dv": DegradationConfig(
        stages=(
            StageConfig(
                blur=0.3,
                sigma=(0.2, 0.8),
                fields=0.6,
                noise=0.8,
                gaussian_sigma=(1.0, 12.0),
                poisson_scale=(0.1, 1.5),
                sharpen=0.6,
                sharpen_amount=(0.3, 1.5),
                codec=1.0,
                codecs=(CodecConfig("dvvideo", "fixed", (0, 0)),),
                **_AT_TARGET,
            ),
        ),
    ),
    "vhs": DegradationConfig(
        stages=(
            StageConfig(
                blur=1.0,
                sinc=0.2,
                isotropic=0.0,
                sigma=(0.4, 2.0),
                fields=0.6,
                chroma=1.0,
                noise=1.0,
                gaussian_sigma=(2.0, 14.0),
                poisson_scale=(0.1, 2.0),
                gray=0.3,
                sharpen=0.5,
                codec=1.0,
                codecs=(
                    CodecConfig("mpeg4", "qscale", (2, 10)),
                    CodecConfig("mpeg2video", "qscale", (2, 10)),
                    CodecConfig("libx264", "crf", (18, 30)),
                ),
                **_AT_TARGET,
            ),
        ),
    ),
    "film": DegradationConfig(
        stages=(
            StageConfig(
                blur=0.7,
                sigma=(0.2, 1.2),
                noise=1.0,
                grain=1.0,
                codec=1.0,
                codecs=(
                    CodecConfig("libx264", "crf", (16, 30)),
                    CodecConfig("mpeg2video", "qscale", (2, 8)),
                ),
                **_AT_TARGET,
            ),
        ),
    ),
    "phone": DegradationConfig(
        stages=(
            StageConfig(
                blur=0.7,
                sigma=(0.3, 1.5),
                noise=0.8,
                gaussian_sigma=(1.0, 10.0),
                poisson_scale=(0.1, 1.5),
                sharpen=0.7,
                sharpen_amount=(0.3, 1.2),
                codec=1.0,
                codecs=(
                    CodecConfig("libx265", "crf", (24, 40)),
                    CodecConfig("libx265", "bits_per_pixel", (0.02, 0.15)),
                ),
                **_AT_TARGET,
            ),
        ),
    ),
    "web": DegradationConfig(
        stages=(
            StageConfig(resize=(0.25, 1.0), codec=1.0, codecs=_WEB_CODECS, blur=0.3),
            StageConfig(
                resize=(0.5, 1.0),
                resize_of="target",
                up_down_keep=(0.0, 0.7, 0.3),
                sharpen=0.2,
                sharpen_amount=(0.2, 1.0),
                codec=1.0,
                codecs=_WEB_CODECS,
            ),
        ),
        compress_last=0.5,
    ),
}
