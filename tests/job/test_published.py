"""The full pipeline on a small STAR in the published file layout, through the command line, against a plain loop."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from starvsr.cli.app import run
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.models.autoencoder import TemporalVAE
from starvsr.models.text import ClipTokenizer
from starvsr.models.unet import StarUNet
from starvsr.options import DeviceOptions, SamplingOptions, WeightsOptions
from starvsr.restore.latents import POSTERIOR_DRAW
from starvsr.restore.levels import frames_to_tensor
from starvsr.restore.noise import FrameNoise
from starvsr.restore.restorer import Restorer
from starvsr.specs import SPECS
from starvsr.zoo import load
from starvsr.zoo.convert import from_published
from tests.media.clips import Audio, Clip, make, payloads
from tests.reference import plain_loop
from tests.zoo.published import (
    SMALL_STAR,
    VAE_CONFIG,
    install_small,
    published_network,
    small_models,
)

FRAMES, WIDTH, HEIGHT, SCALE = 5, 24, 16, 4
SIZE = (SCALE * HEIGHT, SCALE * WIDTH)

# One window, one tile, one decoded group: what a loop without windows can equal.
WHOLE = dataclasses.replace(
    SMALL_STAR,
    autoencoder=dataclasses.replace(
        SMALL_STAR.autoencoder, chunk_frames=FRAMES, tile=None, posterior="sample"
    ),
)
WHOLE_FLAGS = ["--chunk-frames", str(FRAMES), "--chunk-overlap", "0", "--tile", "0"]
LOSSLESS = ["--codec", "ffv1", "--pix-fmt", "gbrp16le"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_small(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with small_models(), patch.dict(SPECS, {SMALL_STAR.name: WHOLE}):
        yield


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    sound = (Audio(seconds=0.2),)
    return make(path, Clip(frames=FRAMES, width=WIDTH, height=HEIGHT, audio=sound))


def frames_of(path: Path) -> Tensor:
    """`t 3 h w` in [-1, 1]."""
    info = probe(path)
    index = build_index(info, scene_detect=False)
    return frames_to_tensor(list(read_frames(info, index, 0, index.frames)))


def upscaled(clip: Path, weights: Path, tmp_path: Path, *flags: str) -> Path:
    """The output of a command line that must succeed."""
    target = tmp_path / f"out-{len(list(tmp_path.iterdir()))}.mkv"
    common = ["--model", SMALL_STAR.name, "--weights-dir", str(weights), "--offline"]
    code = run(["upscale", str(clip), str(target), *common, *LOSSLESS, *flags])
    assert code == 0
    return target


def clip_context(published: Path, text: str) -> Tensor:
    """Of the whole published CLIP, vision tower and last layer included: what the last layer but one gives, normed."""
    from transformers import CLIPConfig, CLIPModel

    folder = published / "small" / "CLIP"
    model: Any = CLIPModel(CLIPConfig(**json.loads((folder / "config.json").read_text())))
    model.eval()
    state = load_file(folder / "model.safetensors")
    model.load_state_dict({k: v for k, v in state.items() if not k.endswith("position_ids")})
    words = (folder / "vocab.json").read_text("utf-8"), (folder / "merges.txt").read_text("utf-8")
    ids = torch.tensor([ClipTokenizer(*words)(text, 77)])
    tower = model.text_model
    hidden = tower(input_ids=ids, output_hidden_states=True).hidden_states[-2]
    normed: Tensor = tower.final_layer_norm(hidden)
    return normed


def vae_coding(
    published: Path, seed: int, group: int | None = None
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """diffusers' own autoencoder from the published file, all frames at once or decoded in groups."""
    folder = published / "small" / "video-diffusion" / "vae"
    vae: Any = TemporalVAE.build(VAE_CONFIG)
    vae.eval()
    state = load_file(folder / "diffusion_pytorch_model.fp16.safetensors")
    vae.load_state_dict({name: value.float() for name, value in state.items()})

    def encode(pictures: Tensor) -> Tensor:
        posterior = vae.encode(pictures).latent_dist
        shape = torch.Size((1, *posterior.mean[:1].transpose(0, 1).shape))
        noise = torch.cat(
            [FrameNoise(seed, t, shape)(POSTERIOR_DRAW)[0] for t in range(len(pictures))], 1
        )
        z: Tensor = (posterior.mean + posterior.std * noise.transpose(0, 1)) * 0.18215
        return z

    def decode(z: Tensor) -> Tensor:
        groups = torch.split(z / 0.18215, group or len(z))
        return torch.cat([vae.decode(part, num_frames=len(part)).sample for part in groups])

    return encode, decode


def plain_model(
    published: Path, prompt: str = "a good video", negative: str = "painting, blurring"
) -> Any:
    """Network and contexts straight from the published files."""
    network = StarUNet(SMALL_STAR.network)
    network.load_state_dict(from_published(published_network()))
    network.eval()
    return SimpleNamespace(
        spec=WHOLE,
        network=network,
        context=clip_context(published, f"{prompt}Cinematic,   sharp."),
        negative_context=clip_context(published, negative),
    )


@torch.inference_mode()
def expected(weights: Path, frames: Tensor, sampling: SamplingOptions, **texts: str) -> Tensor:
    """The whole method from the published files, without any of our windows, offload, caches or loading."""
    published = weights / ".published"
    model = plain_model(published, **texts)
    seed = 666 if sampling.seed is None else sampling.seed
    return plain_loop(model, frames, SIZE, sampling, vae_coding(published, seed))


CASES: dict[str, tuple[list[str], SamplingOptions, dict[str, str]]] = {
    "three steps": (["--steps", "3"], SamplingOptions(steps=3), {}),
    "published": ([], SamplingOptions(), {}),
    "steps": (["--steps", "4"], SamplingOptions(steps=4), {}),
    "cfg": (["--steps", "3", "--cfg", "2.5"], SamplingOptions(steps=3, cfg=2.5), {}),
    "no guidance": (["--steps", "3", "--cfg", "1"], SamplingOptions(steps=3, cfg=1), {}),
    "noise level": (
        ["--steps", "3", "--noise-level", "400"],
        SamplingOptions(steps=3, noise_level=400),
        {},
    ),
    "seed": (["--steps", "3", "--seed", "5"], SamplingOptions(steps=3, seed=5), {}),
    "solver mode": (
        ["--steps", "3", "--solver-mode", "normal"],
        SamplingOptions(steps=3, solver_mode="normal"),
        {},
    ),
    "prompt": (["--steps", "3", "-p", "Ants"], SamplingOptions(steps=3), {"prompt": "Ants"}),
    "negative prompt": (
        ["--steps", "3", "--negative-prompt", ""],
        SamplingOptions(steps=3),
        {"negative": ""},
    ),
}


@pytest.fixture(scope="module")
def results() -> dict[str, Tensor]:
    """What each case gave, for comparing them."""
    return {}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("published", marks=pytest.mark.slow),
        *(name for name in CASES if name != "published"),
    ],
)
def test_the_command_line_equals_the_plain_loop(
    case: str, weights: Path, clip: Path, tmp_path: Path, results: dict[str, Tensor]
) -> None:
    flags, sampling, texts = CASES[case]
    result = frames_of(upscaled(clip, weights, tmp_path, *WHOLE_FLAGS, *flags))
    for other, frames in results.items():
        assert (result - frames).abs().max() > 1e-3, f"{case} gives what {other} gives"
    results[case] = result
    reference = expected(weights, frames_of(clip), sampling, **texts)
    assert result.shape == (FRAMES, 3, *SIZE)
    assert (result - reference).abs().max() < 1e-3, "of 2; the file holds steps of 3e-5"
    assert (result - reference).norm() < 1e-4 * reference.norm()


def test_options_of_the_picture_change_nothing_else(
    weights: Path, clip: Path, tmp_path: Path
) -> None:
    first, second = (
        upscaled(clip, weights, tmp_path, *WHOLE_FLAGS, "--steps", "2", "--seed", seed)
        for seed in ("1", "2")
    )
    indices = [build_index(probe(path), scene_detect=False) for path in (clip, first, second)]
    assert indices[0].pts == indices[1].pts == indices[2].pts
    assert payloads(first, "audio") == payloads(second, "audio") == payloads(clip, "audio")


@pytest.mark.parametrize("offload", ["model", "block"])
def test_offload_changes_no_bit(offload: str, weights: Path, clip: Path, tmp_path: Path) -> None:
    flags = ("--steps", "2", "--offload")
    plain, moved = (
        frames_of(upscaled(clip, weights, tmp_path, *flags, where)) for where in ("none", offload)
    )
    assert torch.equal(plain, moved)


@pytest.mark.parametrize(("precision", "bound"), [("fp16", 2e-2), ("bf16", 1e-1)])
def test_half_precision_is_close(
    precision: str, bound: float, weights: Path, clip: Path, tmp_path: Path
) -> None:
    flags = ("--steps", "2", "--cfg", "1", "--precision")
    exact, half = (
        frames_of(upscaled(clip, weights, tmp_path, *flags, kind)) for kind in ("fp32", precision)
    )
    assert 0 < (exact - half).norm() < bound * exact.norm()


@pytest.mark.slow
def test_parity_is_the_published_way(weights: Path, tmp_path: Path) -> None:
    clip = make(tmp_path / "long.mkv", Clip(frames=17, width=WIDTH, height=HEIGHT))
    flags = ("--steps", "3", "--parity", "--chunk-frames", "8")
    result = frames_of(upscaled(clip, weights, tmp_path, *flags))
    # 64 rows and 96 columns are legal already, so the published rule adds one step of 16 to each.
    white, chunks = (0, 16, 0, 16), [(0, 8), (4, 12), (8, 17)]
    with torch.inference_mode():
        published = weights / ".published"
        reference = plain_loop(
            plain_model(published),
            frames_of(clip),
            SIZE,
            SamplingOptions(steps=3),
            vae_coding(published, 666, group=3),
            white=white,
            chunks=chunks,
        )
    levels = (result + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-2), "8 bits"
    # Truncated, but for levels so near to the next that rounding in float32 decides.
    below = (reference + 1) * 127.5 - levels
    assert -1e-2 < below.min() < below.max() < 1 + 1e-2
    assert 0.45 < below.mean() < 0.55


def test_windows_and_tiles_stay_near_the_whole(weights: Path, clip: Path, tmp_path: Path) -> None:
    flags = ("--steps", "3", "--cfg", "1")
    whole = frames_of(upscaled(clip, weights, tmp_path, *WHOLE_FLAGS, *flags))
    windows = dataclasses.replace(SMALL_STAR.windows, chunk_frames=4, chunk_overlap=2)
    with patch.dict(SPECS, {SMALL_STAR.name: dataclasses.replace(SMALL_STAR, windows=windows)}):
        cut = frames_of(upscaled(clip, weights, tmp_path, *flags))
    assert cut.shape == whole.shape
    assert 0 < (cut - whole).norm() < 0.15 * whole.norm()


def test_the_library_takes_words_too(weights: Path) -> None:
    frames = torch.rand(2, 3, 16, 24)

    def restored(prompt: str | None) -> Tensor:
        restorer = Restorer.from_name(
            SMALL_STAR.name,
            device=DeviceOptions(device="cpu", precision="bf16", offload="block"),
            sampling=SamplingOptions(steps=1, prompt=prompt),
            weights=WeightsOptions(folder=weights),
        )
        assert restorer.model.dtype == torch.bfloat16
        return restorer(frames, scale=2)

    ants, bees, ours = (restored(prompt) for prompt in ("Ants", "Bees", None))
    assert not torch.equal(ants, bees)
    assert not torch.equal(ants, ours)


@pytest.mark.parametrize(
    ("precision", "code", "words"), [("fp32", 4, "--verify"), ("bf16", 2, "--precision")]
)
def test_what_is_no_number_is_not_written(
    precision: str,
    code: int,
    words: str,
    weights: Path,
    clip: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(weights, broken, ignore=shutil.ignore_patterns(".published"))
    path = broken / f"{SMALL_STAR.name}.safetensors"
    data = bytearray(path.read_bytes())
    data[-4000:] = b"\xff" * 4000
    path.write_bytes(data)
    common = ["--model", SMALL_STAR.name, "--weights-dir", str(broken), "--steps", "1"]
    target = tmp_path / "o.mkv"
    assert run(["upscale", str(clip), str(target), *common, "--precision", precision]) == code
    assert words in capfd.readouterr().err
    assert not target.exists()


def test_weights_that_do_not_fit_are_loaded_block_by_block(
    weights: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    expected = frames_of(upscaled(clip, weights, tmp_path, "--steps", "1"))

    def full(*_: object) -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    with monkeypatch.context() as patched:
        patched.setattr(load, "placed", full)
        patched_run = frames_of(upscaled(clip, weights, tmp_path, "--steps", "1"))
    assert torch.equal(patched_run, expected)
    assert "while loading with --offload none" in capfd.readouterr().err
    monkeypatch.setattr(load, "_empty_network", full)
    flags = ["--model", SMALL_STAR.name, "--weights-dir", str(weights)]
    assert run(["upscale", str(clip), str(tmp_path / "o.mkv"), *flags]) == 5
    assert "no room for the weights of small-star on cpu, even block by" in capfd.readouterr().err
    monkeypatch.setattr("starvsr.models.compiled.check_compiler", lambda _: None)
    assert run(["upscale", str(clip), str(tmp_path / "o.mkv"), *flags, "--compile", "-y"]) == 5
    assert "on cpu: leave out --compile to load them block by block" in capfd.readouterr().err


def test_known_words_need_no_text_encoder(
    weights: Path, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ("--steps", "1", "--prompt", "Bees")
    expected = frames_of(upscaled(clip, weights, tmp_path, *flags))
    slim = tmp_path / "slim"
    shutil.copytree(weights, slim, ignore=shutil.ignore_patterns("small-clip*", ".published"))
    assert torch.equal(frames_of(upscaled(clip, slim, tmp_path, *flags)), expected)
    common = ["--model", SMALL_STAR.name, "--weights-dir", str(slim), "--offline"]
    code = run(["upscale", str(clip), str(tmp_path / "o.mkv"), *common, "--prompt", "Wasps"])
    assert code == 4
    assert "small-clip" in capfd.readouterr().err


def test_missing_weights_are_named(
    clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.mkv"
    flags = ["--model", SMALL_STAR.name, "--weights-dir", str(tmp_path / "none"), "--offline"]
    assert run(["upscale", str(clip), str(target), *flags]) == 4
    message = capfd.readouterr().err
    assert f"starvsr download-weights {SMALL_STAR.name}" in message
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    assert run(["plan", str(clip), *flags]) == 0, "a plan needs no weights"
    assert "small-vae" in capfd.readouterr().out
