"""The full pipeline on a small STAR on CogVideoX in the published layout, through the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from starvsr.cli.app import run
from starvsr.errors import MemoryLimitError
from starvsr.models.cogvideox import StarCogVideoX
from starvsr.models.t5 import T5Encoder
from starvsr.options import SamplingOptions, WeightsOptions, WindowOptions
from starvsr.restore.colorfix import adain
from starvsr.restore.guidance import dynamic_scale
from starvsr.restore.latents import POSTERIOR_DRAW
from starvsr.restore.levels import frames_to_tensor, tensor_to_frames
from starvsr.restore.noise import FrameNoise
from starvsr.restore.restorer import Restorer
from starvsr.specs import SPECS
from starvsr.types import CogVideoXConfig
from starvsr.zoo.sat import from_sat
from tests.job.test_published import frames_of
from tests.job.test_resume import packets
from tests.media.clips import Audio, Clip, make, payloads
from tests.models.test_causal_vae import diffusers_module
from tests.restore.test_sampling import published_vpsde
from tests.zoo.published_cogvideox import (
    SMALL_2B,
    SMALL_COGVIDEOX,
    T5_CONFIG,
    install_small_cogvideox,
    sat_checkpoint,
    small_cogvideox,
    t5_state,
    word_pieces,
)

WIDTH, HEIGHT, SCALE = 24, 16, 4
SIZE = (SCALE * HEIGHT, SCALE * WIDTH)
NAME = SMALL_COGVIDEOX.name

# One tile: what a loop without windows can equal.
WHOLE = dataclasses.replace(
    SMALL_COGVIDEOX, autoencoder=dataclasses.replace(SMALL_COGVIDEOX.autoencoder, tile=None)
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_small_cogvideox(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def narrow_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, whose published file has the sizes of the smaller CogVideoX."""
    return install_small_cogvideox(tmp_path_factory.mktemp("narrow"), network=SMALL_2B)


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with small_cogvideox():
        yield


def clip_of(folder: Path, frames: int, width: int = WIDTH, height: int = HEIGHT) -> Path:
    sound = (Audio(seconds=frames / 25),)
    return make(folder / "clip.mkv", Clip(frames=frames, width=width, height=height, audio=sound))


def command(clip: Path, weights: Path, target: Path, *flags: str) -> list[str]:
    common = ["--model", NAME, "--weights-dir", str(weights), "--offline", "--codec", "ffv1"]
    return ["upscale", str(clip), str(target), *common, "--pix-fmt", "gbrp16le", *flags]


def upscaled(clip: Path, weights: Path, tmp_path: Path, *flags: str) -> Tensor:
    """`t 3 h w` in [-1, 1], of a command line that must succeed."""
    target = tmp_path / f"out-{len(list(tmp_path.iterdir()))}.mkv"
    assert run(command(clip, weights, target, *flags)) == 0
    assert payloads(target, "audio") == payloads(clip, "audio")
    return frames_of(target)


@torch.inference_mode()
def expected(
    frames: Tensor,
    *,
    steps: int,
    seed: int = 666,
    cfg: float | None = None,
    config: CogVideoXConfig = WHOLE.network,
) -> Tensor:
    """The whole method from the published files, without any of our windows, caches or loading.

    Steps as in NJU-PCALab/STAR 69b8bc5, `cogvideox-based/sat`: `sample_sr.py`, the sampler VPSDEDPMPP2MSampler.
    """
    scale, shift = (0.7, 1.0) if config.rotary else (1.15258426, 3.0)
    with torch.device("meta"):
        shapes = StarCogVideoX(config).state_dict()
    network = StarCogVideoX(config).eval()
    network.load_state_dict(dict(from_sat(sat_checkpoint(config), shapes)))
    text = T5Encoder.from_state(T5_CONFIG, t5_state(), word_pieces())("a good video", 24)
    positive, negative = (network.embed(each) for each in (text, torch.zeros_like(text)))
    large = functional.interpolate(frames, size=SIZE, mode="bicubic", align_corners=False)
    missing = (1 - len(frames)) % 4
    video = torch.cat([large.clamp(-1, 1), *[large[-1:].clamp(-1, 1)] * missing])
    vae = diffusers_module()
    mean, log_variance = vae.encoder(video.transpose(0, 1)[None])[0].chunk(2, dim=1)
    noise = FrameNoise(seed, 0, mean.shape, by_run=True)
    hint = network.see(scale * (mean + torch.exp(log_variance / 2) * noise(POSTERIOR_DRAW)))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        v_pos, v_neg = (
            network(x.float(), t, context, hint).double() for context in (positive, negative)
        )
        strength = dynamic_scale(int(t), steps=steps, scale=6) if cfg is None else cfg
        guided: Tensor = v_neg + strength * (v_pos - v_neg)
        return guided

    noises = [noise(step).double() for step in range(steps + 1)]
    z = published_vpsde(velocity, noises[0], noises[1:], steps, shift)
    if z.shape[2] % 2 == 0:
        z = torch.cat([z, z[:, :, -1:]], dim=2)
    pictures = vae.decode(z.float() / scale).sample[0].transpose(0, 1)[: len(frames)]
    # sample_sr.py clamps what was decoded before adain_color_fix, which clamps again.
    return adain(pictures.clamp(-1, 1), frames).clamp(-1, 1)


@pytest.mark.parametrize(
    ("frames", "flags", "options"),
    [
        (9, ("--steps", "3"), {"steps": 3}),
        (7, ("--steps", "2", "--seed", "5"), {"steps": 2, "seed": 5}),
        (5, ("--steps", "2", "--cfg", "2.5"), {"steps": 2, "cfg": 2.5}),
        (1, ("--steps", "2", "--cfg", "1"), {"steps": 2, "cfg": 1.0}),
    ],
)
def test_the_command_line_equals_the_plain_loop(
    frames: int, flags: tuple[str, ...], options: dict[str, float], weights: Path, tmp_path: Path
) -> None:
    clip = clip_of(tmp_path, frames)
    with patch.dict(SPECS, {NAME: WHOLE}):
        result = upscaled(clip, weights, tmp_path, "--tile", "0", *flags)
    reference = expected(frames_of(clip), **options)  # type: ignore[arg-type]
    assert result.shape == reference.shape == (frames, 3, *SIZE)
    assert (result - reference).norm() < 1e-3 * reference.norm()


def test_a_file_with_the_sizes_of_2b_equals_the_plain_loop(
    narrow_weights: Path, tmp_path: Path
) -> None:
    clip = clip_of(tmp_path, 9)
    with patch.dict(SPECS, {NAME: WHOLE}):
        result = upscaled(clip, narrow_weights, tmp_path, "--tile", "0", "--steps", "3")
    reference = expected(frames_of(clip), steps=3, config=SMALL_2B)
    assert (result - reference).norm() < 1e-3 * reference.norm()


def test_a_plan_counts_the_network_that_the_file_has(
    weights: Path, narrow_weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip, sizes = clip_of(tmp_path, 17), []
    for folder in (weights, narrow_weights):
        flags = ["--model", NAME, "--weights-dir", str(folder), "--json", "--tile", "0"]
        assert run(["plan", str(clip), *flags]) == 0
        plan = json.loads(capfd.readouterr().out.splitlines()[0])["plan"]
        sizes.append(plan["layout"]["peak_bytes"])
    assert sizes[1] > sizes[0], "the file has more weights, although one autoencoder dwarfs both"


@pytest.mark.parametrize("room", [True, False])
def test_what_is_constant_is_made_once_for_all_steps(
    room: bool, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, flags = clip_of(tmp_path, 9, 60, 16), ("--steps", "3")
    wanted = upscaled(clip, weights, tmp_path, *flags)
    made: list[str] = []

    def counted(name: str, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def counting(*inputs: object) -> Tensor:
            made.append(name)
            return method(*inputs)

        return counting

    for name in ("see", "embed", "forward"):
        monkeypatch.setattr(StarCogVideoX, name, counted(name, getattr(StarCogVideoX, name)))
    if not room:
        monkeypatch.setattr("starvsr.restore.velocity.KEPT_HINTS_BYTES", 20_000)
    assert torch.equal(upscaled(clip, weights, tmp_path, *flags), wanted)
    windows = 2
    assert made.count("forward") == 3 * 2 * windows
    assert made.count("embed") == 2
    # One of the two has room.
    assert made.count("see") == (windows if room else 1 + 3 * 2)


def test_offload_and_windows_of_memory_change_no_more_than_they_must(
    weights: Path, tmp_path: Path
) -> None:
    clip, flags = clip_of(tmp_path, 9), ("--steps", "2", "--cfg", "1")
    plain, moved = (
        upscaled(clip, weights, tmp_path, *flags, "--offload", where) for where in ("none", "block")
    )
    assert torch.equal(plain, moved)


def test_segments_are_runs_of_their_own(weights: Path, tmp_path: Path) -> None:
    clip, flags = clip_of(tmp_path, 9), ("--steps", "2", "--cfg", "1")
    whole = upscaled(clip, weights, tmp_path, *flags)
    cut = upscaled(clip, weights, tmp_path, *flags, "--segment-frames", "6")
    assert cut.shape == whole.shape
    assert not torch.equal(cut, whole)


def test_a_job_that_is_broken_off_goes_on(weights: Path, tmp_path: Path) -> None:
    clip, flags = clip_of(tmp_path, 9), ("--steps", "2", "--segment-frames", "6")
    target, whole = tmp_path / "out.mkv", tmp_path / "whole.mkv"
    forward = StarCogVideoX.forward
    calls: list[int] = []

    def counted(network: StarCogVideoX, *inputs: Tensor) -> Tensor:
        calls.append(len(calls))
        if len(calls) == most:
            raise MemoryLimitError("memory ran out, as the test wants it")
        return forward(network, *inputs)

    with patch.object(StarCogVideoX, "forward", counted):
        most = 0
        assert run(command(clip, weights, whole, *flags)) == 0
        unbroken, most = len(calls), len(calls) - 1
        calls.clear()
        assert run(command(clip, weights, target, *flags)) == 5
        assert not target.exists()
        calls.clear()
        most = 0
        assert run(command(clip, weights, target, *flags)) == 0
        assert 0 < len(calls) < unbroken, "the first segment is not done again"
    assert packets(target) == packets(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mkv", "out.mkv", "whole.mkv"]


@pytest.mark.slow
def test_the_issues_clip_with_tiles_and_without(weights: Path, tmp_path: Path) -> None:
    clip = clip_of(tmp_path, 17, 96, 64)
    flags = ("--steps", "1", "--cfg", "1")
    tiled = upscaled(clip, weights, tmp_path, *flags)
    whole = upscaled(clip, weights, tmp_path, *flags, "--tile", "0")
    assert tiled.shape == whole.shape == (17, 3, 256, 384)
    assert not torch.equal(tiled, whole)


def test_what_would_do_nothing_is_refused(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip, target = clip_of(tmp_path, 2), tmp_path / "out.mkv"
    for flags in (["--noise-level", "500"], ["--solver-mode", "fast"], ["--parity"]):
        assert run(command(clip, weights, target, *flags)) == 2
        assert f"{flags[0]} would have no effect on the model {NAME}" in capfd.readouterr().err
    assert run(command(clip, weights, target, "--chunk-overlap", "8")) == 2
    assert "is more than half of --chunk-frames 9" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]


def test_a_plan_counts_latent_frames(
    weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = clip_of(tmp_path, 17)
    flags = ["--model", NAME, "--weights-dir", str(weights), "--json", "--tile", "0"]
    assert run(["plan", str(clip), *flags]) == 0
    plan = json.loads(capfd.readouterr().out.splitlines()[0])["plan"]
    # 5 latent frames in two windows of 3, 50 steps, two calls a step.
    assert plan["network_calls"] == 2 * 50 * 2
    assert plan["layout"]["frames"] == 5
    assert plan["overlap_cost"] == pytest.approx(6 / 5)
    assert plan["layout"]["peak_bytes"] > 0


def test_frames_as_they_come_are_those_of_a_file(weights: Path, tmp_path: Path) -> None:
    """Of segments whose latent frames are of several frames, the last of them incomplete."""
    clip = clip_of(tmp_path, 15, 60, 16)
    wanted = upscaled(clip, weights, tmp_path, "--steps", "2", "--segment-frames", "11")
    restorer = Restorer.from_name(
        NAME,
        sampling=SamplingOptions(steps=2),
        windows=WindowOptions(segment_frames=11),
        weights=WeightsOptions(folder=weights, offline=True),
    )
    frames = list(tensor_to_frames(frames_of(clip)))
    found = list(restorer.stream(frames, scale=4))
    assert len(found) == 15
    assert torch.equal(frames_to_tensor(found), wanted)
