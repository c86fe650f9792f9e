"""Dithering: gradients keep their values on average in every depth, and levels stay levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from starvsr.media.pixfmt import layout_of
from starvsr.media.probe import probe
from starvsr.media.quantize import repeated_bits, to_levels
from starvsr.media.reader import read_frames
from starvsr.media.writer import PartWriter, check_encoder
from starvsr.options import EncodeOptions
from tests.media.clips import Clip, make
from tests.media.jobs import opened

WIDTH, HEIGHT = 1024, 64
# A gradient that is slower than a level of 12 bits in 8 columns.
LOW, HIGH = 20_000, 21_500


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ramp") / "in.mkv"
    return make(path, Clip(frames=1, width=WIDTH, height=HEIGHT, codec="ffv1", pix_fmt="gbrp16le"))


def written(source: Path, target: Path, pix_fmt: str, pixels: npt.NDArray[np.uint16]) -> Path:
    info = probe(source)
    options = EncodeOptions(codec="ffv1", pix_fmt=pix_fmt)
    settings = check_encoder(options, target, info, WIDTH, HEIGHT)
    with PartWriter(target, settings, info, WIDTH, HEIGHT) as writer:
        for number in range(2):
            writer.write(pixels, 40 * number, 40)
    return target


@pytest.mark.parametrize(
    "pix_fmt", ["bgr0", "yuv420p", "yuv444p", "gbrp10le", "yuv420p10le", "gbrp12le", "yuv444p12le"]
)
def test_a_slow_gradient_does_not_band(tmp_path: Path, source: Path, pix_fmt: str) -> None:
    """Encoded without loss, it is right to a small part of a level wherever a few pixels are averaged."""
    ramp = np.linspace(LOW, HIGH, WIDTH)
    pixels = np.broadcast_to(ramp[None, :, None], (HEIGHT, WIDTH, 3)).round().astype(np.uint16)
    info, index = opened(written(source, tmp_path / "out.mkv", pix_fmt, pixels))
    first, second = (frame.astype(float) for frame in read_frames(info, index, 0, 2))
    assert np.array_equal(first, second), "still pictures stay still"
    level = 65535 / ((1 << layout_of(pix_fmt).depth) - 1)
    error = (first - pixels)[..., 1] / level
    blocks = error.reshape(HEIGHT // 16, 16, WIDTH // 16, 16).mean(axis=(1, 3))
    assert np.abs(blocks).max() < 0.15
    assert abs(error.mean()) < 0.05


def test_rounding_would_band() -> None:
    """The measure of the test above tells dithered gradients from rounded ones."""
    ramp = np.linspace(LOW, HIGH, WIDTH)
    error = np.tile(np.rint(ramp / 257) - ramp / 257, (16, 1))
    assert np.abs(error.reshape(16, WIDTH // 16, 16).mean(axis=(0, 2))).max() > 0.4


@pytest.mark.parametrize("depth", [8, 9, 10, 12, 14, 16])
def test_levels_stay(depth: int) -> None:
    top = (1 << depth) - 1
    levels = np.random.default_rng(0).integers(0, top + 1, (64, 64))
    levels[:8, :8], levels[8:16, :8] = 0, top
    values = np.rint(levels * 65535 / top).astype(np.uint16)
    assert np.array_equal(to_levels(values, depth), levels)
    spread = repeated_bits(levels.astype(np.uint16), depth)
    assert np.abs(spread.astype(int) - values).max() <= 1
