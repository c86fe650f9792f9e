"""The embedded toy: a small STAR that was really trained. It denoises, and what is asked of it acts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from starvsr.options import LookOptions, SamplingOptions, WindowOptions
from starvsr.restore.restorer import Restorer
from starvsr.specs import TOY, components_of
from starvsr.types import DeviceInfo
from starvsr.zoo.choose import choose_model
from starvsr.zoo.folder import embedded_file
from starvsr.zoo.load import LoadedModel, load_choice, load_model

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT.parent / "examples" / "butterfly.mp4"
GOLDEN = ROOT / "golden" / "toy.safetensors"
CPU = DeviceInfo("cpu", "CPU", 0, 1)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def toy() -> LoadedModel:
    return load_model("toy", device="cpu")


def truth(frames: int = 4) -> Tensor:
    """A cut-out of the shipped sample, `t 3 96 128` in [0, 1]."""
    with av.open(str(SAMPLE)) as container:
        decoded = itertools.islice(container.decode(video=0), frames)
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])
    return torch.from_numpy(pictures[:, 16:112, 64:192]).permute(0, 3, 1, 2).float() / 255


def small(frames: int = 4) -> Tensor:
    """A quarter of its size, as an input would be."""
    reduced = functional.interpolate(
        truth(frames), scale_factor=0.25, mode="bicubic", antialias=True
    )
    return (reduced.clamp(0, 1) * 255).round() / 255


def restored(model: LoadedModel, frames: int = 4, **sampling: Any) -> Tensor:
    """Without a colour fix, so that differences are the network's."""
    options = SamplingOptions(**sampling)
    return Restorer(model, options, look=LookOptions(color_fix="none"))(small(frames))


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * (one - other).square().mean().log10())


def detail(pictures: Tensor) -> float:
    """Mean size of what a blur takes away."""
    return float((pictures - functional.avg_pool2d(pictures, 3, 1, 1)).abs().mean())


def test_its_files_are_small() -> None:
    sizes = [embedded_file(name).stat().st_size for name in ("toy", *components_of(TOY))]
    assert len(sizes) == 3
    assert sum(sizes) < 3e6


def test_it_needs_nothing_that_is_not_in_the_package(tmp_path: Path) -> None:
    from starvsr.options import WeightsOptions

    choice = choose_model("toy", CPU, WeightsOptions(tmp_path / "none", offline=True))
    assert choice.missing == ()
    assert load_choice(choice, CPU).spec == TOY


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("", {}),
    "few": ("", {"steps": 4, "cfg": 1.0}),
    "guided": ("", {"steps": 4, "cfg": 6.0, "solver_mode": "normal"}),
    "words": ("blurry, low quality", {"steps": 4, "cfg": 1.0}),
}
"""Prompt and options of each golden result; `benchmarks/toy_golden.py` wrote them."""


STORED = slice(1, 2)
"""Of the frames, to keep the file small."""


@pytest.mark.parametrize("case", CASES)
def test_golden(toy: LoadedModel, case: str) -> None:
    words, sampling = CASES[case]
    found = restored(prompted(words) if words else toy, **sampling)
    wanted = load_file(GOLDEN)[case].float() / 255
    # They are stored in 8 bits; what another processor rounds otherwise grows over the steps.
    assert psnr(found[STORED], wanted) > 45


def prompted(words: str) -> LoadedModel:
    return load_choice(choose_model("toy", CPU), CPU, prompt=words)


def upsampled() -> Tensor:
    pictures = functional.interpolate(small(), scale_factor=4, mode="bilinear")
    return pictures.clamp(0, 1)


def test_it_restores(toy: LoadedModel) -> None:
    """Sampling begins with almost only noise and ends with what the input shows.

    Here it has 24.0 dB, and 12.1 against the mirrored truth; its autoencoder alone 28.0, bilinear interpolation 25.5,
    nano, whose pictures it was taught, 27.2.
    """
    result = restored(toy)
    assert psnr(result, truth()) > 23
    assert psnr(result, truth()) > psnr(result, truth().flip(-1)) + 10
    taught = Restorer(load_model("nano", device="cpu"))(small())
    added, wanted = (each - upsampled() for each in (result, taught))
    # 0.6; noise would have 0.
    assert functional.cosine_similarity(added.flatten(), wanted.flatten(), dim=0) > 0.5


def test_guidance_leads_away_from_what_is_blurred(toy: LoadedModel) -> None:
    sharp = [detail(restored(toy, steps=6, cfg=cfg, cfg_rescale=0.0)) for cfg in (1.0, 3.0, 6.0)]
    assert sharp[0] < sharp[1] < sharp[2]


def test_words_act(toy: LoadedModel) -> None:
    good = restored(toy, steps=6, cfg=1.0)
    bad = restored(prompted("blurry, low quality"), steps=6, cfg=1.0)
    assert psnr(good, bad) < 40
    assert psnr(bad, upsampled()) > psnr(good, upsampled()) + 0.1


def test_more_steps_draw_more_detail(toy: LoadedModel) -> None:
    few, some, many = (
        detail(restored(toy, steps=steps, cfg=1.0, solver_mode="normal")) for steps in (3, 6, 12)
    )
    assert few < some < many


@pytest.mark.slow
@pytest.mark.parametrize(
    ("speed", "share", "distance"), [("balanced", 0.5, 34), ("fast", 0.35, 33), ("draft", 0.11, 25)]
)
def test_speeds_keep_near_the_exact_picture(
    toy: LoadedModel, speed: str, share: float, distance: float
) -> None:
    """In one chunk, where they make fewer calls and no other windows."""
    calls: list[int] = []
    handle = toy.network.register_forward_hook(lambda *_: calls.append(1))
    exact = restored(toy, speed="exact")
    assert len(calls) == 28
    calls.clear()
    faster = restored(toy, speed=speed)
    handle.remove()
    assert len(calls) <= share * 28
    assert psnr(faster, exact) > distance
    given: dict[str, Any] = {
        "cache": 0.0,
        "guidance_interval": (0.0, 1.0),
        "steps": 15,
        "cfg": TOY.cfg,
    }
    plain = restored(toy, speed=speed, **given)
    assert torch.equal(plain, exact)


@pytest.mark.slow
def test_tiles_and_chunks_leave_no_seams(toy: LoadedModel) -> None:
    frames = small(12)
    options = SamplingOptions(steps=4, cfg=1.0)
    look = LookOptions(color_fix="none")
    whole = Restorer(toy, options, look=look, windows=WindowOptions(tile_px=0, chunk_frames=12))
    cut = Restorer(
        toy,
        options,
        look=look,
        windows=WindowOptions(tile_px=64, tile_overlap_px=24, chunk_frames=8, chunk_overlap=4),
    )
    at_once, in_pieces = whole(frames), cut(frames)
    assert psnr(in_pieces, at_once) > 40
    jumps, usual = (
        (each[..., 1:] - each[..., :-1]).abs().mean((0, 1, 2)) for each in (in_pieces, at_once)
    )
    assert float((jumps / usual).max()) < 1.2
