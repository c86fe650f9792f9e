"""Colour against an exact reference in float64: both matrices, both ranges, every depth."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from starvsr.errors import InputError, OutputError
from starvsr.media.color import FromRgb, ToRgb, output_color, resolve_color
from starvsr.media.index import build_index
from starvsr.media.pixfmt import choose_pix_fmt, is_subsampled, layout_of
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.options import EncodeOptions
from starvsr.types import ColorInfo, VideoInfo
from tests.media.clips import Clip, make

Real = npt.NDArray[np.float64]

WIDTH, HEIGHT = 64, 32
# Shares of red and blue in luma (ITU-R BT.709, BT.601, BT.2020) by matrix code.
SHARES = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
LIMITED, FULL = 1, 2
CASES = [(matrix, color_range) for matrix in SHARES for color_range in (LIMITED, FULL)]


def facts(pix_fmt: str, matrix: int = 2, color_range: int = 0, **changes: object) -> VideoInfo:
    info = VideoInfo(
        path=Path("clip"),
        container="matroska,webm",
        stream_index=0,
        codec="ffv1",
        pix_fmt=pix_fmt,
        bit_depth=layout_of(pix_fmt).depth,
        width=WIDTH,
        height=HEIGHT,
        rotation=0,
        sample_aspect=Fraction(1),
        time_base=Fraction(1, 1000),
        frame_rate=Fraction(25),
        duration_s=1.0,
        header_frames=25,
        interlaced=False,
        color=ColorInfo(matrix=matrix, range=color_range),
        streams=(),
    )
    return replace(info, **changes)  # type: ignore[arg-type]


def rgb_of(y: Real, u: Real, v: Real, matrix: int, full: bool, depth: int) -> Real:
    """RGB, 0..1, of samples (ITU-T H.273, equations 20 to 37 the other way round)."""
    red, blue = SHARES[matrix]
    step, top = 1 << depth - 8, (1 << depth) - 1
    luma = y / top if full else (y / step - 16) / 219
    cb, cr = ((c - 128 * step) / (top if full else 224 * step) for c in (u, v))
    r, b = luma + 2 * (1 - red) * cr, luma + 2 * (1 - blue) * cb
    return np.clip(np.stack([r, (luma - red * r - blue * b) / (1 - red - blue), b], -1), 0, 1)


def yuv_of(rgb: Real, matrix: int, full: bool, depth: int) -> list[Real]:
    """Samples of RGB, 0..1, not rounded."""
    red, blue = SHARES[matrix]
    step, top = 1 << depth - 8, (1 << depth) - 1
    luma = rgb @ np.array([red, 1 - red - blue, blue])
    cb, cr = (rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)
    if full:
        return [luma * top, cb * top + 128 * step, cr * top + 128 * step]
    return [(luma * 219 + 16) * step, (cb * 224 + 128) * step, (cr * 224 + 128) * step]


def planar(pix_fmt: str, planes: list[npt.NDArray[np.int64]]) -> av.VideoFrame:
    frame = av.VideoFrame(WIDTH, HEIGHT, pix_fmt)
    for plane, samples in zip(frame.planes, planes, strict=True):
        kind = np.uint8 if layout_of(pix_fmt).depth == 8 else np.uint16
        row = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
        row[:, : plane.width] = samples
        plane.update(row.tobytes())
    return frame


def samples_of(frame: av.VideoFrame) -> list[Real]:
    kind = np.uint8 if layout_of(frame.format.name).depth == 8 else np.uint16
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        found.append(rows[:, : plane.width].astype(np.float64))
    return found


def random_rgb(seed: int) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)


@pytest.mark.parametrize(("matrix", "color_range"), CASES)
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le", "yuv444p12le"])
def test_to_rgb_is_exact(pix_fmt: str, matrix: int, color_range: int) -> None:
    depth, full = layout_of(pix_fmt).depth, color_range == FULL
    rng = np.random.default_rng(1)
    low, high = (0, 1 << depth) if full else (16 << depth - 8, (235 << depth - 8) + 1)
    y = rng.integers(low, high, (HEIGHT, WIDTH))
    u, v = (rng.integers(16 << depth - 8, 241 << depth - 8, y.shape) for _ in range(2))
    info = facts(pix_fmt, matrix, color_range)
    made = ToRgb(info, WIDTH, HEIGHT)(planar(pix_fmt, [y, u, v]))
    yuv = np.stack([y, u, v]).astype(np.float64)
    wanted = rgb_of(yuv[0], yuv[1], yuv[2], matrix, full, depth)
    assert np.abs(made / 65535 - wanted).max() * 255 < 0.03


@pytest.mark.parametrize(("matrix", "color_range"), CASES)
@pytest.mark.parametrize(
    ("pix_fmt", "most"),
    # Ordered dither moves a sample by less than one level; libswscale's 16 bits are not exact at 12.
    [("yuv444p", 1.05), ("yuv444p10le", 1.2), ("yuv444p12le", 2.0)],
)
def test_from_rgb_is_exact(pix_fmt: str, most: float, matrix: int, color_range: int) -> None:
    depth, full = layout_of(pix_fmt).depth, color_range == FULL
    pixels = random_rgb(2)
    frame = FromRgb(WIDTH, HEIGHT, pix_fmt, ColorInfo(matrix, color_range))(pixels)
    assert (frame.colorspace, frame.color_range) == (matrix, color_range)
    for made, wanted in zip(
        samples_of(frame), yuv_of(pixels / 65535, matrix, full, depth), strict=True
    ):
        assert np.abs(made - wanted).max() < most
        assert abs((made - wanted).mean()) < 0.08


@pytest.mark.parametrize(("matrix", "color_range"), CASES)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p16le"])
def test_grey_stays_grey(pix_fmt: str, matrix: int, color_range: int) -> None:
    """A ramp from black to white: neutral chroma, the ends at the range's ends."""
    depth, full = layout_of(pix_fmt).depth, color_range == FULL
    ramp = np.linspace(0, 65535, WIDTH).round().astype(np.uint16)
    pixels = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (HEIGHT, WIDTH, 3)))
    frame = FromRgb(WIDTH, HEIGHT, pix_fmt, ColorInfo(matrix, color_range))(pixels)
    luma, *chroma = samples_of(frame)
    ends = (0, (1 << depth) - 1) if full else (16 << depth - 8, 235 << depth - 8)
    # libswscale's own arithmetic has 16 bits, of which the last two are not exact.
    inexact = 4 if depth == 16 else 0
    assert np.abs(luma[:, 0] - ends[0]).max() <= inexact
    assert np.abs(luma[:, -1] - ends[1]).max() <= inexact
    for plane in chroma:
        # Ordered dither takes a sample at 127.99 down once in 64.
        assert np.abs(plane - (128 << depth - 8)).max() <= 1 + inexact
        assert abs(plane.mean() - (128 << depth - 8)) < 0.05 + inexact
    back = ToRgb(facts(pix_fmt, matrix, color_range), WIDTH, HEIGHT)(frame)
    # Dither moves luma and chroma by up to a level each, and chroma counts up to 1.9 times.
    assert np.abs(back.astype(int) - pixels).max() < 3 * 65535 / 219


@pytest.mark.parametrize(("matrix", "color_range"), CASES)
def test_round_trip_of_8_bit_420(matrix: int, color_range: int) -> None:
    rng = np.random.default_rng(4)
    info = facts("yuv420p", matrix, color_range)
    y = rng.integers(60, 190, (HEIGHT, WIDTH))
    u, v = (rng.integers(118, 139, (HEIGHT // 2, WIDTH // 2)) for _ in range(2))
    pixels = ToRgb(info, WIDTH, HEIGHT)(planar("yuv420p", [y, u, v]))
    frame = FromRgb(WIDTH, HEIGHT, "yuv420p", resolve_color(info))(pixels)
    luma, *_ = samples_of(frame)
    assert np.abs(luma - y).max() <= 1
    assert (luma == y).mean() > 0.9


@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_round_trip_of_flat_chroma_is_exact(color_range: int) -> None:
    info = facts("yuv420p", 1, color_range)
    y = np.tile(np.arange(40, 40 + WIDTH), (HEIGHT, 1))
    u, v = (np.full((HEIGHT // 2, WIDTH // 2), level) for level in (120, 140))
    pixels = ToRgb(info, WIDTH, HEIGHT)(planar("yuv420p", [y, u, v]))
    frame = FromRgb(WIDTH, HEIGHT, "yuv420p", resolve_color(info))(pixels)
    for made, wanted in zip(samples_of(frame), (y, u, v), strict=True):
        assert np.abs(made - wanted).max() <= 1


@pytest.mark.parametrize(
    ("pix_fmt", "exact"),
    [
        ("rgb24", 0),
        ("bgr24", 0),
        ("bgr0", 0),
        ("gbrp", 0),
        ("rgba", 0),
        ("rgb48le", 0),
        ("gbrp10le", 0),
        ("gbrp12le", 0),
        ("gbrp16le", 0),
    ],
)
def test_rgb_formats_are_exact(pix_fmt: str, exact: int) -> None:
    depth = layout_of(pix_fmt).depth
    top = (1 << depth) - 1
    levels = np.random.default_rng(5).integers(0, top + 1, (HEIGHT, WIDTH, 3))
    pixels = np.rint(levels / top * 65535).astype(np.uint16)
    info = facts(pix_fmt)
    if layout_of(pix_fmt).alpha:
        source = av.VideoFrame.from_ndarray((pixels // 257).astype(np.uint8), "rgb24")
        frame = source.reformat(format=pix_fmt)
    else:
        frame = FromRgb(WIDTH, HEIGHT, pix_fmt, ColorInfo(0, FULL))(pixels)
    assert frame.format.name == pix_fmt
    back = ToRgb(info, WIDTH, HEIGHT)(frame)
    assert np.abs(back.astype(int) - pixels).max() <= exact + (2 if 8 < depth < 16 else 0)


@pytest.mark.parametrize(
    ("pix_fmt", "color_range"), [("gray", 0), ("gray", 1), ("gray10le", 1), ("gray10le", 2)]
)
def test_grey_formats(pix_fmt: str, color_range: int) -> None:
    depth = layout_of(pix_fmt).depth
    limited = color_range == LIMITED
    low, high = (16 << depth - 8, 235 << depth - 8) if limited else (0, (1 << depth) - 1)
    y = np.tile(np.linspace(low, high, WIDTH).round().astype(np.int64), (HEIGHT, 1))
    pixels = ToRgb(facts(pix_fmt, 2, color_range), WIDTH, HEIGHT)(planar(pix_fmt, [y]))
    assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    assert np.abs(pixels[..., 0] / 65535 - (y - low) / (high - low)).max() < 1e-4


def test_frames_of_another_size_are_scaled() -> None:
    frame = planar("yuv420p", [np.full((HEIGHT, WIDTH), 126), *[np.full((16, 32), 128)] * 2])
    pixels = ToRgb(facts("yuv420p", 1, 1), 20, 30)(frame)
    assert pixels.shape == (30, 20, 3)
    assert np.abs(pixels.astype(int) - round(110 / 219 * 65535)).max() < 100


@pytest.mark.parametrize(
    ("width", "height", "matrix"),
    [(640, 480, 6), (720, 576, 5), (1280, 720, 1), (720, 1280, 1), (1024, 576, 5), (1920, 800, 1)],
)
def test_untagged_matrix(width: int, height: int, matrix: int) -> None:
    color = resolve_color(facts("yuv420p", width=width, height=height))
    assert (color.matrix, color.range) == (matrix, LIMITED)


def test_resolved_and_written_colors() -> None:
    assert resolve_color(facts("yuvj420p", 6)).range == FULL
    assert resolve_color(facts("rgb24", 1, 1)) == ColorInfo(0, FULL)
    assert resolve_color(facts("gray")).range == FULL
    with pytest.raises(InputError, match="matrix"):
        resolve_color(facts("yuv444p", 8))
    hdr = facts("yuv420p10le", color=ColorInfo(9, 1, 9, 16))
    assert output_color(hdr, "yuv420p10le", "libx265") == ColorInfo(9, 1, 9, 16, 1)
    assert output_color(facts("yuv420p"), "yuv420p", "libx264").matrix == 6
    assert output_color(facts("rgb24"), "yuv444p", "libx264") == ColorInfo(1, LIMITED)
    jpeg = output_color(facts("yuv420p", 1, 1), "yuv420p", "mjpeg")
    assert (jpeg.matrix, jpeg.range) == (5, FULL)
    assert output_color(facts("yuv420p", 1, FULL), "yuv422p10le", "prores_ks").range == LIMITED
    assert output_color(facts("yuv411p", 6, FULL), "yuv411p", "ffv1").range == LIMITED
    assert output_color(facts("yuv420p", 1, 1), "bgr0", "ffv1") == ColorInfo(0, FULL)


@pytest.mark.parametrize(("codec", "offset"), [("h264", 0.0), ("ffv1", 0.0), ("mjpeg", 0.5)])
def test_chroma_lies_where_the_codec_says(codec: str, offset: float) -> None:
    """A chroma ramp: sample i of a row lies at luma column 2 i (left) or 2 i + 1/2 (centred)."""
    u = np.tile(96 + 2 * np.arange(WIDTH // 2), (HEIGHT // 2, 1))
    planes = [np.full((HEIGHT, WIDTH), 126), u, np.full_like(u, 128)]
    info = facts("yuv420p", 1, LIMITED, codec=codec)
    pixels = ToRgb(info, WIDTH, HEIGHT)(planar("yuv420p", planes)) / 65535
    luma = 110 / 219
    columns = np.arange(WIDTH)
    wanted = luma + 2 * (1 - 0.0722) * (96 - 128 + (columns - offset)) / 224
    inner = slice(8, WIDTH - 8)
    assert np.abs(pixels[4, inner, 2] - wanted[inner]).max() * 255 < 0.3
    frame = FromRgb(WIDTH, HEIGHT, "yuv420p", resolve_color(info))(
        (pixels * 65535).astype(np.uint16)
    )
    made = samples_of(frame)[1]
    assert np.abs(made[:, 4:-4] - u[:, 4:-4]).max() <= 1


def test_wrong_pixels_are_refused() -> None:
    convert = FromRgb(WIDTH, HEIGHT, "yuv420p", ColorInfo(1, 1))
    with pytest.raises(ValueError, match="uint16"):
        convert(np.zeros((HEIGHT, WIDTH + 1, 3), np.uint16))


@pytest.mark.parametrize(
    ("codec", "source", "chosen"),
    [
        ("libx264", "yuv420p", "yuv420p"),
        ("libx264", "yuvj420p", "yuv420p"),
        ("libx264", "yuv420p10le", "yuv420p10le"),
        ("libx264", "yuv422p", "yuv422p"),
        ("libx264", "yuv444p12le", "yuv444p10le"),
        ("libx264", "rgb24", "yuv444p"),
        ("libx264", "gray", "yuv420p"),
        ("libx264", "yuv410p", "yuv420p"),
        ("libx264", "nv12", "yuv420p"),
        ("libx264", "yuva420p", "yuv420p"),
        ("libx265", "yuv420p12le", "yuv420p12le"),
        ("libsvtav1", "yuv444p", "yuv420p"),
        ("libsvtav1", "p010le", "yuv420p10le"),
        ("prores_ks", "yuv420p", "yuv422p10le"),
        ("ffv1", "gbrp10le", "gbrp10le"),
        ("ffv1", "yuv411p", "yuv411p"),
        ("png", "yuv420p", "rgb24"),
        ("png", "yuv420p10le", "rgb48be"),
        ("mjpeg", "yuv420p", "yuv420p"),
    ],
)
def test_automatic_pixel_format(codec: str, source: str, chosen: str) -> None:
    assert choose_pix_fmt(EncodeOptions(codec=codec), facts(source)) == chosen


def test_pixel_formats_asked_for() -> None:
    info = facts("yuv420p")
    assert (
        choose_pix_fmt(EncodeOptions(codec="libx264", pix_fmt="yuv444p10le"), info) == "yuv444p10le"
    )
    for bad in ("yuv999", "rgb24", "gray"):
        with pytest.raises(OutputError, match="--pix-fmt"):
            choose_pix_fmt(EncodeOptions(codec="libx264", pix_fmt=bad), info)
    for codec in ("nonsense", "aac"):
        with pytest.raises(OutputError, match="--codec"):
            choose_pix_fmt(EncodeOptions(codec=codec), info)


def test_subsampled() -> None:
    assert is_subsampled("yuv420p") and is_subsampled("yuv422p10le") and is_subsampled("nv12")
    assert not is_subsampled("yuv444p") and not is_subsampled("rgb24")


@pytest.mark.parametrize(
    "codec", ["vp8", "mjpeg", "mpeg1video", "theora", "vp6f", "flv1", "h263", "svq3", "webp"]
)
def test_codecs_that_are_bt601_by_definition(codec: str) -> None:
    info = facts("yuv420p", codec=codec, width=1280, height=720)
    assert resolve_color(info).matrix in (5, 6)
    assert resolve_color(replace(info, codec="mpeg2video")).matrix == 1
    tagged = replace(info, color=ColorInfo(matrix=1))
    # A tag counts where the codec or its containers have one, which VP8 does not.
    assert resolve_color(tagged).matrix == (5 if codec == "vp8" else 1)


def test_vp8_with_alpha_has_the_colours_of_vp8_without(tmp_path: Path) -> None:
    """libvpx, which decodes alpha, does not say that they are BT.601."""
    clip = Clip(2, 1280, 16, codec="libvpx", pix_fmt="yuva420p", options={"auto-alt-ref": "0"})
    found = []
    for name, pix_fmt in (("a.webm", "yuva420p"), ("b.webm", "yuv420p")):
        info = probe(make(tmp_path / name, replace(clip, pix_fmt=pix_fmt)))
        assert resolve_color(info).matrix == 5
        (frame,) = read_frames(info, build_index(info), 0, 1)
        found.append(frame.astype(int))
    assert np.abs(found[0] - found[1]).mean() < 257
