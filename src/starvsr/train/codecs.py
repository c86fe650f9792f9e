"""Real compression of frames in memory: JPEG through libjpeg, video codecs through libav.

Both work on 8-bit 4:2:0 samples, in one thread, so that the same frames give the same result on every machine with the
same libraries.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from av.codec import Codec
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from PIL import Image
from torch import Tensor

FRAMES_PER_SECOND = 25
"""Frame rate passed to encoders; bit rates are drawn per pixel, so it matters little."""

RATES = ("crf", "qscale", "bits_per_pixel", "fixed")

_DV, _DV_SIZE = "dvvideo", (576, 720)
# The least that every codec here accepts (x265 refuses frames smaller than its smallest block).
_LEAST_SIDE_PX = 64
# On small frames x264's macroblock tree, and x265 if a frame is one block wide, read uninitialised memory: the same
# frames then differ from one time to the next.
_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "medium", "mbtree": "0"},
    "libx265": {
        "preset": "fast",
        "x265-params": "log-level=error:pools=none:frame-threads=1:ctu=32",
    },
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0"},
}

Samples = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class VideoCodec:
    """A drawn encoder and how hard it compresses."""

    encoder: str
    """Its name in libav, such as `libx264`."""
    rate: str
    """What `amount` is: `crf`, `qscale` (the quantiser, 1 .. 31, of MPEG-2 and MPEG-4) or `bits_per_pixel`; `fixed` for
    DV alone, whose rate cannot be chosen."""
    amount: float

    def __post_init__(self) -> None:
        if self.rate not in RATES:
            raise ValueError(f"rate {self.rate!r} must be one of {', '.join(RATES)}")
        if (self.encoder == _DV) != (self.rate == "fixed"):
            raise ValueError(f"the encoder {self.encoder} does not have the rate {self.rate!r}")


def is_available(encoder: str) -> bool:
    """Whether this libav build has an encoder and a matching decoder."""
    known = av.codecs_available
    return encoder in known and Codec(encoder, "w").canonical_name in known


def jpeg(frame: Tensor, quality: int) -> Tensor:
    """A frame `3 h w` in [0, 1] (rounded to 8 bits) after 4:2:0 JPEG of quality 1 .. 100."""
    file = io.BytesIO()
    pixels = to_bytes(frame).permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as image:
        decoded = torch.from_numpy(np.array(image))
    return (decoded.permute(2, 0, 1).float() / 255).contiguous()


def recode(frames: Iterable[Tensor], codec: VideoCodec) -> Iterator[Tensor]:
    """Frames `3 h w` in [0, 1] after a video codec, same number and order.

    Buffers no more than the encoder's lookahead. Raises ValueError if this libav build lacks the encoder.
    """
    if not is_available(codec.encoder):
        raise ValueError(
            f"the encoder {codec.encoder} is missing in this libav build: choose others"
        )
    source = iter(frames)
    first = next(source, None)
    if first is None:
        return
    if codec.encoder == _DV:
        yield from (dv(frame) for frame in chain([first], source))
        return
    size = first.shape[1], first.shape[2]
    encoder = _encoder(codec, *_coded_size(*size))
    name = Codec(codec.encoder, "w").canonical_name
    decoder = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    decoder.thread_count = 1
    given = made = 0

    def packets() -> Iterator[Packet[Any] | None]:
        nonlocal given
        for frame in chain([first], source):
            picture = VideoFrame.from_ndarray(to_yuv(frame), "yuv420p")
            picture.pts, picture.time_base = given, Fraction(1, FRAMES_PER_SECOND)
            given += 1
            yield from encoder.encode(picture)
        yield from (*encoder.encode(None), None)

    for decoded in _decoded(decoder, packets()):
        made += 1
        yield from_yuv(decoded, *size)
    if made != given:
        raise RuntimeError(f"{codec.encoder} returned {made} of {given} frames")


def dv(frame: Tensor) -> Tensor:
    """A frame `3 h w` in [0, 1] after DV (25 Mbit/s at 720x576), whose frames are compressed one by one.

    Larger frames are compressed in parts; smaller ones are mirrored to fill DV's size, since what would be empty would
    leave its bits to the rest.
    """
    bands = [
        torch.cat([_dv_part(part) for part in torch.split(band, _DV_SIZE[1], dim=2)], dim=2)
        for band in torch.split(frame, _DV_SIZE[0], dim=1)
    ]
    return torch.cat(bands, dim=1)


def _dv_part(part: Tensor) -> Tensor:
    rows, columns = (
        torch.from_numpy(np.pad(np.arange(side), (0, full - side), mode="symmetric"))
        for side, full in zip(part.shape[1:], _DV_SIZE, strict=True)
    )
    encoder = _created(_DV, *_DV_SIZE)
    encoder.open()
    decoder = cast("VideoCodecContext", av.CodecContext.create(_DV, "r"))
    picture = VideoFrame.from_ndarray(to_yuv(part[:, rows][:, :, columns]), "yuv420p")
    picture.pts, picture.time_base = 0, Fraction(1, FRAMES_PER_SECOND)
    packets = [*encoder.encode(picture), *encoder.encode(None), None]
    (decoded,) = _decoded(decoder, packets)
    return from_yuv(decoded, *_DV_SIZE)[:, : part.shape[1], : part.shape[2]]


def _decoded(
    decoder: VideoCodecContext, packets: Iterable[Packet[Any] | None]
) -> Iterator[Samples]:
    for packet in packets:
        for frame in decoder.decode(packet):
            yield frame.to_ndarray(format="yuv420p").astype(np.uint8, copy=False)


def _created(name: str, height: int, width: int) -> VideoCodecContext:
    """An encoder, not yet opened."""
    encoder = cast("VideoCodecContext", av.CodecContext.create(name, "w"))
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, FRAMES_PER_SECOND)
    encoder.framerate = Fraction(FRAMES_PER_SECOND)
    encoder.thread_count = 1
    return encoder


def _encoder(codec: VideoCodec, height: int, width: int) -> VideoCodecContext:
    encoder = _created(codec.encoder, height, width)
    options = dict(_OPTIONS.get(codec.encoder, {}))
    if codec.rate == "bits_per_pixel":
        encoder.bit_rate = max(1000, round(codec.amount * width * height * FRAMES_PER_SECOND))
    elif codec.rate == "crf":
        options["crf"] = f"{codec.amount:g}"
        encoder.bit_rate = 0
    else:
        # `global_quality` has to be set on every frame, which PyAV cannot do.
        options["qmin"] = options["qmax"] = str(round(codec.amount))
    encoder.options = options
    encoder.open()
    return encoder


def _coded_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns that every encoder accepts."""
    even_height, even_width = height + height % 2, width + width % 2
    return max(_LEAST_SIDE_PX, even_height), max(_LEAST_SIDE_PX, even_width)


def to_bytes(frame: Tensor) -> Tensor:
    """A frame in [0, 1], clamped, as uint8."""
    return (frame.clamp(0, 1) * 255).round().to(torch.uint8)


def to_yuv(frame: Tensor) -> Samples:
    """A frame `3 h w` in [0, 1] as libav's yuv420p (limited range, BT.601), padded to a size that encoders accept.

    Padding repeats the border.
    """
    height, width = _coded_size(*frame.shape[1:])
    right, below = width - frame.shape[2], height - frame.shape[1]
    rgb = F.pad(frame.clamp(0, 1)[None], (0, right, 0, below), mode="replicate")[0]
    yuv = torch.tensordot(YUV_FROM_RGB.to(rgb), rgb, dims=1) + _YUV_ZERO.to(rgb)[:, None, None]
    chroma = F.avg_pool2d(yuv[None, 1:], 2)[0]
    planes = [yuv[0].flatten(), chroma[0].flatten(), chroma[1].flatten()]
    samples = torch.cat(planes).round().clamp(0, 255).to(torch.uint8)
    array: Samples = samples.reshape(height * 3 // 2, width).numpy()
    return array


def from_yuv(samples: Samples, height: int, width: int) -> Tensor:
    """A frame `3 height width` in [0, 1] from the output of `to_yuv`."""
    rows, columns = samples.shape[0] * 2 // 3, samples.shape[1]
    flat = torch.from_numpy(np.ascontiguousarray(samples)).flatten().float()
    luma = flat[: rows * columns].reshape(1, rows, columns)
    chroma = flat[rows * columns :].reshape(1, 2, rows // 2, columns // 2)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    yuv = torch.cat([luma, chroma[0]])[:, :height, :width] - _YUV_ZERO[:, None, None]
    rgb: Tensor = torch.tensordot(RGB_FROM_YUV, yuv, dims=1)
    return rgb.clamp_(0, 1)


_KR, _KB = 0.299, 0.114
_LUMA = (_KR, 1 - _KR - _KB, _KB)
YUV_FROM_RGB = torch.tensor(
    [
        [219 * k for k in _LUMA],
        [112 * (b - k) / (1 - _KB) for k, b in zip(_LUMA, (0, 0, 1), strict=True)],
        [112 * (r - k) / (1 - _KR) for k, r in zip(_LUMA, (1, 0, 0), strict=True)],
    ]
)
"""8-bit samples of Y, Cb, Cr per unit of R, G, B."""
_YUV_ZERO = torch.tensor([16.0, 128.0, 128.0])
RGB_FROM_YUV = torch.linalg.inv(YUV_FROM_RGB.double()).float()
