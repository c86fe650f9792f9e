"""Frames to latents and back: tiles change nothing where nothing depends on them, and noise belongs to frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from starvsr.errors import MemoryLimitError
from starvsr.models.autoencoder import Autoencoder, PixelUnshuffle, TemporalVAE
from starvsr.plan.layout import Layout, autoencoder_grid, plain_layout
from starvsr.plan.settings import resolve
from starvsr.restore.fallback import Attempts
from starvsr.restore.latents import POSTERIOR_DRAW, LatentCoder
from starvsr.restore.noise import FrameNoise
from starvsr.restore.upsample import upsample
from starvsr.types import AutoencoderSpec, ModelSpec
from tests.conftest import TOY
from tests.models.test_autoencoder import small_vae
from tests.models.test_causal_vae import small_causal_vae
from tests.zoo.published import SMALL_STAR

SIZE = (160, 200)


def spec_with(**changes: object) -> ModelSpec:
    """SMALL_STAR with another autoencoder."""
    return dataclasses.replace(
        SMALL_STAR,
        autoencoder=dataclasses.replace(SMALL_STAR.autoencoder, **changes),  # type: ignore[arg-type]
    )


def coder_of(
    autoencoder: Autoencoder, spec: ModelSpec, size: tuple[int, int] = SIZE, frames: int = 6
) -> LatentCoder:
    layout = plain_layout(spec, resolve(spec), size, frames)
    return LatentCoder(autoencoder, Attempts(spec, layout), seed=5)


@pytest.fixture(scope="module")
def vae() -> TemporalVAE:
    return small_vae()[0]


class Scarce:
    """An autoencoder for which there is memory for `most` latent elements at once."""

    module, time_factor = None, 1

    def __init__(self, inner: Autoencoder, most: int) -> None:
        self.inner, self.most = inner, most
        self.factor, self.latent_channels = inner.factor, inner.latent_channels
        self.calls = 0

    def _check(self, elements: int) -> None:
        self.calls += 1
        if elements > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        self._check(frames[:, 0].numel() // self.factor**2)
        return self.inner.encode(frames, noise)

    def decode(self, latent: Tensor) -> Tensor:
        self._check(latent[:, 0].numel())
        return self.inner.decode(latent)


@torch.inference_mode()
def test_one_tile_is_the_autoencoder_itself(vae: TemporalVAE) -> None:
    spec = spec_with(tile=None, chunk_frames=None, posterior="mean")
    spec = dataclasses.replace(
        spec, windows=dataclasses.replace(spec.windows, chunk_frames=6, chunk_overlap=2)
    )
    coder, frames = coder_of(vae, spec), torch.rand(6, 3, 40, 50) * 2 - 1
    z = coder.encode(frames, SIZE, 0)
    assert z.shape == (1, 4, 6, 20, 26)
    whole = torch.nn.functional.pad(
        upsample(frames, SIZE, "bilinear"), (0, 8, 0, 0), mode="replicate"
    )
    assert torch.allclose(z, vae.encode(whole.transpose(0, 1)[None]), atol=1e-5)
    assert torch.allclose(
        torch.cat(list(coder.decode(z))), vae.decode(z)[0].transpose(0, 1), atol=1e-5
    )


@torch.inference_mode()
def test_tiles_are_exact_for_a_lossless_autoencoder() -> None:
    spec = dataclasses.replace(
        TOY,
        autoencoder=AutoencoderSpec(
            "pixel_unshuffle", 2, tile=20, tile_overlap=6, chunk_frames=3, chunk_overlap=1
        ),
    )
    coder, frames = coder_of(PixelUnshuffle(2), spec), torch.rand(8, 3, 40, 50) * 2 - 1
    z = coder.encode(frames, SIZE, 0)
    plain = torch.cat(list(coder.decode(z)))
    assert torch.allclose(plain, upsample(frames, SIZE, "bilinear"), atol=1e-6)


@torch.inference_mode()
def test_the_posterior_is_sampled_by_absolute_frame(vae: TemporalVAE) -> None:
    coder = coder_of(vae, spec_with(posterior="sample"))
    frames = torch.rand(4, 3, 40, 50) * 2 - 1
    together = coder.encode(frames, SIZE, 10)
    assert torch.equal(coder.encode(frames[2:], SIZE, 12), together[:, :, 2:])
    assert not torch.equal(coder.encode(frames[2:], SIZE, 10), together[:, :, 2:])
    mean = coder_of(vae, spec_with(posterior="mean")).encode(frames, SIZE, 10)
    other = LatentCoder(vae, coder.attempts, seed=6).encode(frames, SIZE, 10)
    assert not torch.equal(mean, together)
    assert not torch.equal(other, together)


@torch.inference_mode()
def test_where_memory_runs_out_tiles_are_halved(caplog: pytest.LogCaptureFixture) -> None:
    def coder(autoencoder: Autoencoder) -> LatentCoder:
        spec = dataclasses.replace(
            TOY,
            autoencoder=AutoencoderSpec(
                "pixel_unshuffle", 2, tile=100, tile_overlap=6, chunk_frames=4, chunk_overlap=1
            ),
        )
        return coder_of(autoencoder, spec)

    frames = torch.rand(6, 3, 40, 50) * 2 - 1
    plenty = coder(PixelUnshuffle(2))
    z = plenty.encode(frames, SIZE, 0)
    expected = torch.cat(list(plenty.decode(z)))
    scarce = coder(Scarce(PixelUnshuffle(2), 4 * 50 * 50))
    assert torch.allclose(scarce.encode(frames, SIZE, 0), z, atol=1e-6)
    assert not caplog.records, "one frame fits"
    assert torch.allclose(torch.cat(list(scarce.decode(z))), expected, atol=1e-6)
    assert len(caplog.records) == 1, "said once, kept for all chunks"
    assert "tiles of 4 frames of 100x100 pixels" in caplog.text


@torch.inference_mode()
def test_where_even_the_smallest_tile_is_too_large_it_ends(vae: TemporalVAE) -> None:
    coder = coder_of(Scarce(vae, 8), SMALL_STAR)
    with pytest.raises(MemoryLimitError, match="smallest tiles of the autoencoder"):
        list(coder.decode(torch.zeros(1, 4, 4, 20, 26)))


def causal(**changes: object) -> ModelSpec:
    """SMALL_STAR with CogVideoX's autoencoder."""
    plain = {"kind": "causal_vae", "time_factor": 4, "chunk_frames": None, "posterior": "mean"}
    return spec_with(**{**plain, **changes})


@pytest.mark.parametrize(("frames", "length"), [(1, 1), (2, 2), (5, 2), (7, 3), (9, 3)])
@torch.inference_mode()
def test_runs_of_any_length_are_completed_by_the_last_frame(frames: int, length: int) -> None:
    vae, size = small_causal_vae(), (32, 48)
    coder = coder_of(vae, causal(tile=None), size, frames)
    given = torch.rand(frames, 3, 32, 48) * 2 - 1
    z = coder.encode(given, size, 0)
    assert z.shape == (1, 4, length, 4, 6)
    full = torch.cat([given, given[-1:].expand(4 * length - 3 - frames, -1, -1, -1)])
    assert torch.allclose(z, vae.encode(full.transpose(0, 1)[None]), atol=1e-6)
    runs = list(coder.decode(z))
    assert [len(run) for run in runs] == [4] * (length - 1) + [1]
    assert torch.allclose(torch.cat(runs), vae.decode(z)[0].transpose(0, 1), atol=1e-6)


@torch.inference_mode()
def test_a_whole_run_in_time_is_coded_in_tiles() -> None:
    vae, size = small_causal_vae(), (96, 160)
    frames = torch.rand(5, 3, 24, 40) * 2 - 1
    whole = coder_of(vae, causal(tile=None), size)
    tiled = coder_of(vae, causal(tile=10, tile_overlap=4), size)
    z, cut = (coder.encode(frames, size, 0) for coder in (whole, tiled))
    grid = autoencoder_grid(tiled.attempts.layout, 2)
    (rows, below), (columns, beside) = grid.rows[:2], grid.columns[:2]
    # What only the first tile covers.
    alone = slice(below[0]), slice(beside[0])
    video = upsample(frames, size, "bilinear").transpose(0, 1)[None]
    first = vae.encode(video[..., : 8 * rows[1], : 8 * columns[1]])
    assert torch.allclose(cut[(..., *alone)], first[(..., *alone)], atol=1e-6)
    assert not torch.allclose(cut[(..., *alone)], z[(..., *alone)], atol=1e-2), "norms see a tile"
    in_tiles = torch.cat(list(tiled.decode(z)))
    assert in_tiles.shape == (5, 3, 96, 160)
    first = vae.decode(z[..., : rows[1], : columns[1]])[0].transpose(0, 1)
    pixels = slice(8 * below[0]), slice(8 * beside[0])
    assert torch.allclose(in_tiles[(..., *pixels)], first[(..., *pixels)], atol=1e-6)


@torch.inference_mode()
def test_the_posterior_of_a_run_is_sampled_by_its_first_frame() -> None:
    vae, size = small_causal_vae(), (32, 48)
    frames = torch.rand(5, 3, 32, 48) * 2 - 1
    coder = coder_of(vae, causal(tile=None, posterior="sample"), size)
    first = coder.encode(frames, size, 8)
    noise = FrameNoise(5, 8, first.shape, by_run=True)(POSTERIOR_DRAW)
    assert torch.allclose(first, vae.encode(frames.transpose(0, 1)[None], noise), atol=1e-6)
    assert not torch.allclose(first, coder.encode(frames, size, 12), atol=1e-3)


@torch.inference_mode()
def test_tiles_of_whole_runs_are_halved_where_memory_runs_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Short(Scarce):
        time_factor = 4

    spec, size = causal(tile=40, tile_overlap=4), (320, 320)
    z = torch.randn(1, 4, 2, 40, 40)
    plenty = coder_of(small_causal_vae(), spec, size)
    scarce = coder_of(Short(small_causal_vae(), 2 * 20 * 20), spec, size)
    expected, halved = (torch.cat(list(coder.decode(z))) for coder in (plenty, scarce))
    assert halved.shape == expected.shape
    assert "tiles of 9 frames of 160x160 pixels" in caplog.text
    with pytest.raises(MemoryLimitError, match="smallest tiles of the autoencoder"):
        list(coder_of(Short(small_causal_vae(), 8), spec, size).decode(z))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_processors_run_out_of_memory_too(error: Exception) -> None:
    attempts = _attempts()
    left = [error]

    def work() -> Layout:
        if left:
            raise left.pop()
        return attempts.layout

    before = attempts.layout
    assert attempts.network(work) != before


def test_other_errors_are_not_retried() -> None:
    def fails() -> None:
        raise RuntimeError("shapes do not match")

    attempts = _attempts()
    before = attempts.layout
    works: list[Callable[[Callable[[], None]], None]] = [attempts.network, attempts.autoencoder]
    for method in works:
        with pytest.raises(RuntimeError, match="shapes"):
            method(fails)
    assert attempts.layout == before


def _attempts() -> Attempts:
    return Attempts(SMALL_STAR, plain_layout(SMALL_STAR, resolve(SMALL_STAR), SIZE, 6))
