"""The whole pipeline, from reading a file to writing one, beside the recorded one of the original code.

Every random draw is handed over, so each stage must come to what was recorded (`tests/golden/pipeline.safetensors`:
NJU-PCALab/STAR 69b8bc5, `STAR.enhance_a_video`, on a CPU in float32). A change of the start by one bit moves the
original's own result by 3.2e-5, which the bounds allow for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from starvsr.cli.app import run
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.plan.windows import published_chunks, published_padding
from starvsr.restore.colorfix import apply_color_fix
from starvsr.restore.latents import POSTERIOR_DRAW, LatentCoder
from starvsr.restore.noise import FrameNoise
from starvsr.restore.sampling import v_denoiser
from starvsr.restore.velocity import WindowedVelocity
from starvsr.types import SizeRule, UNetConfig
from starvsr.zoo.components import make_component
from starvsr.zoo.convert import from_published
from starvsr.zoo.load import save_model
from tests.golden.seeded_init import seeded_input
from tests.zoo.published import (
    SMALL_COMPONENTS,
    SMALL_STAR,
    published_network,
    small_models,
    sources_of,
    write_published,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "pipeline.safetensors"
SCALE = 4

SPEC = dataclasses.replace(
    SMALL_STAR,
    name="recorded-star",
    network=UNetConfig(
        width=32,
        multipliers=(1, 2, 4, 4),
        residual_blocks=2,
        head_width=16,
        first_heads=3,
        context_width=1024,
    ),
    size_rule=SizeRule(multiple=8, height_remainder=2),
    min_size=(10, 8),
    windows=dataclasses.replace(SMALL_STAR.windows, chunk_frames=32, chunk_overlap=16),
    segment_frames=160,
)

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@dataclass
class Stages:
    """What a run came to on its way."""

    z_lr: Tensor | None = None
    x_t: list[Tensor] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    sigmas: list[float] = field(default_factory=list)
    x0: list[Tensor] = field(default_factory=list)
    z_0: Tensor | None = None
    decoded: list[Tensor] = field(default_factory=list)
    fixed: list[Tensor] = field(default_factory=list)
    written: Tensor | None = None
    """`t h w 3` uint8."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model file `recorded-star.safetensors` and the autoencoder beside it."""
    folder = tmp_path_factory.mktemp("weights")
    write_published(folder / "published")
    state = from_published(published_network(SPEC))
    save_model(folder / f"{SPEC.name}.safetensors", SPEC, state)
    vae = SMALL_COMPONENTS["small-vae"]
    with small_models():
        make_component(
            vae,
            sources_of(vae, folder / "published"),
            folder / f"{vae.name}.safetensors",
            source_sha256="0" * 64,
        )
    return folder


@pytest.fixture(params=["short", "two"])
def case(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    """The recorded tensors of one clip, by their names without the clip's."""
    prefix = f"{request.param}."
    recorded = load_file(GOLDEN)
    return {
        name.removeprefix(prefix): value
        for name, value in recorded.items()
        if name.startswith(prefix)
    }


def recorded_noise(case: dict[str, Tensor]) -> Callable[[FrameNoise, int], Tensor]:
    """In place of `FrameNoise.__call__`: the draws of the original's run."""

    def draw(noise: FrameNoise, number: int) -> Tensor:
        frames = slice(noise.first_frame, noise.first_frame + noise.shape[2])
        if number == POSTERIOR_DRAW:
            return case["noise.posterior"][:, :, frames]
        if number == 0:
            return case["noise.start"][:, :, frames]
        return case["noise.steps"][number - 1][:, :, frames]

    return draw


def write_clip(path: Path, frames: np.ndarray[Any, Any]) -> None:
    """Pictures (`t h w 3` uint8 RGB) as a lossless file."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for picture in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())


def read_levels(path: Path) -> Tensor:
    info = probe(path)
    index = build_index(info, scene_detect=False)
    frames = np.stack(list(read_frames(info, index, 0, index.frames)))
    assert not (frames % 257).any(), "of 16 bits, those that are a level of 8"
    return torch.from_numpy((frames // 257).astype(np.uint8))


@pytest.fixture
def stages(
    case: dict[str, Tensor], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stages]:
    """What `starvsr upscale --parity` comes to with the recorded draws and contexts."""
    seen = Stages()
    _watch(seen, monkeypatch)
    monkeypatch.setattr(FrameNoise, "__call__", recorded_noise(case))
    contexts = tuple(
        seeded_input(f"pipeline.context.{which}", (1, 77, 1024), 0)
        for which in ("positive", "negative")
    )
    monkeypatch.setattr("starvsr.zoo.load.contexts", lambda *_, **__: contexts)
    clip, target = tmp_path / "clip.mkv", tmp_path / "out.mkv"
    write_clip(clip, case["clip"].numpy())
    flags = ["--model", str(weights / f"{SPEC.name}.safetensors"), "--parity", "--codec", "ffv1"]
    # The recorded contexts stand for the text encoder, which the model file names all the same.
    (weights / "small-clip.safetensors").touch()
    assert (
        run(["upscale", str(clip), str(target), *flags, "--pix-fmt", "gbrp16le", "--offline"]) == 0
    )
    seen.written = read_levels(target)
    yield seen


def _watch(seen: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every stage of the pipeline leave a copy of what it gives."""
    encode, decode = LatentCoder.encode, LatentCoder.decode
    velocity = WindowedVelocity.__call__

    def encoded(self: LatentCoder, *given: Any) -> Tensor:
        seen.z_lr = encode(self, *given)
        return seen.z_lr

    def called(self: WindowedVelocity, x_t: Tensor, t: Tensor) -> Tensor:
        seen.x_t.append(x_t.clone())
        seen.times.append(int(t))
        return velocity(self, x_t, t)

    def denoised(*given: Any) -> Callable[[Tensor, float], Tensor]:
        denoise = v_denoiser(*given)

        def recorded(x: Tensor, sigma: float) -> Tensor:
            seen.sigmas.append(sigma)
            seen.x0.append(denoise(x, sigma).clone())
            return seen.x0[-1].clone()

        return recorded

    def decoded(self: LatentCoder, z: Tensor) -> Iterator[Tensor]:
        seen.z_0 = z.clone()
        for pictures in decode(self, z):
            seen.decoded.extend(pictures.clone())
            yield pictures

    def fixed(*given: Any) -> Tensor:
        pictures = apply_color_fix(*given)
        seen.fixed.extend(pictures.clone())
        return pictures

    monkeypatch.setattr(LatentCoder, "encode", encoded)
    monkeypatch.setattr(LatentCoder, "decode", decoded)
    monkeypatch.setattr(WindowedVelocity, "__call__", called)
    monkeypatch.setattr("starvsr.restore.restorer.v_denoiser", denoised)
    monkeypatch.setattr("starvsr.restore.look.apply_color_fix", fixed)


def relative_error(found: Tensor | None, recorded: Tensor) -> float:
    assert found is not None and found.shape == recorded.shape
    return float((found.double() - recorded.double()).norm() / recorded.double().norm())


def test_every_stage_is_the_recorded_one(case: dict[str, Tensor], stages: Stages) -> None:
    frames, height, width, _ = case["clip"].shape
    padding = published_padding(
        (SCALE * height, SCALE * width), SPEC.size_rule, SPEC.min_size, SPEC.autoencoder.factor
    )
    assert list(padding) == case["padding"].tolist()
    chunks = published_chunks(frames, SPEC.windows.chunk_frames)
    assert [list(span) for span in chunks] == case["chunks"].tolist()

    assert relative_error(stages.z_lr, case["z_lr"]) < 1e-6
    assert stages.times == case["times"].tolist()
    sigmas = torch.tensor([*stages.sigmas, 0.0])
    assert relative_error(sigmas, case["sigmas"]) < 2e-6
    # One by one: the levels of the schedule differ in their last bits from processor to processor.
    torch.testing.assert_close(sigmas, case["sigmas"], rtol=4e-6, atol=0)
    if "first_x_t" in case:
        assert relative_error(stages.x_t[0], case["first_x_t"]) < 1e-6
    steps = [int(name.removeprefix("x0.")) for name in case if name.startswith("x0.")]
    for step in steps:
        # It starts within rounding, and each step adds the solver's own.
        bound = 2e-5 if step == 0 else 2e-4
        assert relative_error(stages.x0[step], case[f"x0.{step}"]) < bound
    assert relative_error(stages.z_0, case["z_0"]) < 2e-4
    for name in (name for name in case if name.startswith("decoded.")):
        number = int(name.removeprefix("decoded."))
        assert relative_error(stages.decoded[number], case[name]) < 2e-4
    beyond = torch.stack([(each.abs() > 1).float().mean() for each in stages.decoded])
    torch.testing.assert_close(beyond, case["beyond"], rtol=0, atol=2e-3)
    assert case["beyond"].mean() > 0.01, "or holding to [-1, 1] would change nothing"

    levels = (stages.fixed[-1].permute(1, 2, 0) + 1) * 127.5
    torch.testing.assert_close(levels, case["fixed.last"], rtol=0, atol=0.1)
    assert stages.written is not None and len(stages.written) == frames
    written = stages.written[case["written.frames"]].int()
    apart = (written - case["written"].int()).abs()
    assert int(apart.max()) <= 1
    assert float((apart > 0).float().mean()) <= 0.01
