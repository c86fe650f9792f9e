"""The node over batches: bit for bit what the command line restores, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from comfyui.widgets import default_settings, look_options, sampling_options, window_options

import starvsr
from starvsr.cli.app import run
from starvsr.errors import MemoryLimitError, UsageError
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from tests.comfyui.conftest import HEIGHT, WIDTH, Comfy, clip_of

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, CUT = 112, 103


def images_of(path: Path) -> torch.Tensor:
    """A file as ComfyUI loads it: 8 bits, `b h w 3` in [0, 1]."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    return torch.stack([torch.from_numpy(frame) / 255.0 for frame in frames])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_of(tmp_path_factory.mktemp("clip") / "in.mkv", FRAMES, CUT)


@pytest.fixture(scope="module")
def images(clip: Path) -> torch.Tensor:
    return images_of(clip)


def levels_of(path: Path) -> torch.Tensor:
    """The frames of a file of 16 bits, `b h w 3` in [0, 1]."""
    info = probe(path)
    index = build_index(info, scene_detect=False)
    frames = np.stack(list(read_frames(info, index, 0, index.frames)))
    return torch.from_numpy(frames / np.float32(65535))


def upscale(source: Path, target: Path, *options: str) -> None:
    lossless = ("--codec", "ffv1", "--pix-fmt", "gbrp16le", "--quiet")
    assert run(["upscale", str(source), str(target), *options, *lossless]) == 0


@pytest.mark.parametrize("count", [1, 2, 9, FRAMES])
def test_the_frames_of_the_command_line(
    comfy: Comfy, clip: Path, images: torch.Tensor, tmp_path: Path, count: int
) -> None:
    target = tmp_path / "out.mkv"
    upscale(clip, target, "--model", "nano", "--scale", "2", "--frames", str(count))
    found = comfy.run(
        "UpscaleImages", images=images[:count], scale=2.0, resolution=0, model=comfy.model()
    )
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], levels_of(target))


SETTINGS = {
    "steps": (3, "--steps", "3"),
    "cfg": (4.0, "--cfg", "4"),
    "solver_mode": ("normal", "--solver-mode", "normal"),
    "seed": (7, "--seed", "7"),
    "speed": ("balanced", "--speed", "balanced"),
    "color_fix": ("none", "--color-fix", "none"),
    "sharpen": (0.5, "--sharpen", "0.5"),
    "blend": (0.25, "--blend", "0.25"),
    "max_chunk_len": (5, "--chunk-frames", "5"),
    "tile_size": (32, "--tile", "32"),
    "scene_detect": (False, "--no-scene-detect"),
}


@pytest.mark.slow
def test_settings_are_those_of_the_command_line(comfy: Comfy, tmp_path: Path) -> None:
    clip, target = clip_of(tmp_path / "in.mkv", 6, 3), tmp_path / "out.mkv"
    flags = [str(flag) for _, *flags in SETTINGS.values() for flag in flags]
    upscale(clip, target, "--model", "toy", "--resolution", "26", *flags)
    given: dict[str, Any] = {name: value for name, (value, *_) in SETTINGS.items()}
    images, model = images_of(clip), comfy.model("toy")
    inputs = {"images": images, "scale": 1.0, "resolution": 26, "model": model}
    (found,) = comfy.run("UpscaleImages", **inputs, **given)
    assert torch.equal(found, levels_of(target))


def test_every_setting_reaches_the_options() -> None:
    def options(settings: dict[str, Any]) -> tuple[object, ...]:
        return sampling_options(settings), window_options(settings), look_options(settings, None)

    given = {name: value for name, (value, *_) in SETTINGS.items()}
    defaults = default_settings()
    assert set(given) == set(defaults)
    for name in given:
        assert options({**given, name: defaults[name]}) != options(given), name
    plain = (starvsr.SamplingOptions(), starvsr.WindowOptions(), starvsr.LookOptions())
    assert options(defaults) == plain


def upscaled(comfy: Comfy, images: torch.Tensor, scale: float = 2.0, **more: Any) -> torch.Tensor:
    inputs = {"images": images, "scale": scale, "resolution": 0, "model": comfy.model(), **more}
    found: torch.Tensor = comfy.run("UpscaleImages", **inputs)[0]
    return found


def test_cuts_are_found(comfy: Comfy, images: torch.Tensor) -> None:
    both = upscaled(comfy, images[CUT - 8 :])
    parts = [upscaled(comfy, images[CUT - 8 : CUT]), upscaled(comfy, images[CUT:])]
    assert torch.equal(both, torch.cat(parts))
    assert not torch.equal(both, upscaled(comfy, images[CUT - 8 :], scene_detect=False))


def test_grey_and_alpha(comfy: Comfy, images: torch.Tensor) -> None:
    part = images[:3]
    grey = part[..., :1]
    assert torch.equal(upscaled(comfy, grey), upscaled(comfy, grey.expand(-1, -1, -1, 3)))
    alpha = torch.linspace(0.1, 1, WIDTH).expand(3, HEIGHT, WIDTH)[..., None]
    found = upscaled(comfy, torch.cat([part, alpha], -1))
    assert torch.equal(found[..., :3], upscaled(comfy, part))
    assert found.shape == (3, 2 * HEIGHT, 2 * WIDTH, 4)
    rising = found[:, :, 2:-2, 3].diff(dim=2)
    assert ((rising > 0.01) & (rising < 0.04)).all()


def test_sizes(comfy: Comfy, images: torch.Tensor) -> None:
    # As the command line rounds.
    assert upscaled(comfy, images[:1], 1.25).shape == (1, 16, 26, 3)
    assert upscaled(comfy, images[:2], resolution=27).shape == (2, 27, 44, 3)
    half = upscaled(comfy, images[:2].half())
    assert torch.allclose(half, upscaled(comfy, images[:2]), atol=0.01)


def test_wrong_images(comfy: Comfy, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"1, 3 or 4 channels, got \(112, 13, 21, 2\)"):
        upscaled(comfy, images[..., :2])
    with pytest.raises(ValueError, match=r"with b > 0"):
        upscaled(comfy, images[:0])
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 0 to 2.*: scale them"):
        upscaled(comfy, images * 255)
    broken = images[:2].clone()
    broken[1, 2, 3, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        upscaled(comfy, broken)
    for level, said in ((255.0, "got 0 to 255: scale them"), (torch.nan, "NaN")):
        alpha = torch.full_like(images[:2, ..., :1], level)
        alpha[0, 0, 0] = 0
        with pytest.raises(ValueError, match=said):
            upscaled(comfy, torch.cat([images[:2], alpha], dim=-1))


def test_what_cannot_be_done_is_said_before_the_work(
    comfy: Comfy,
    images: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(
        UsageError, match="--steps and --seed would have no effect on the model nano"
    ):
        upscaled(comfy, images, steps=3, seed=1)
    # Nobody named this model.
    assert upscaled(comfy, images[:1], model=None, steps=3).shape == (1, 2 * HEIGHT, 2 * WIDTH, 3)
    assert "--steps would have no effect on the model nano" in caplog.text
    toy = comfy.model("toy", negative_prompt="grain")
    assert upscaled(comfy, images[:1], model=toy, speed="draft").shape[1] == 2 * HEIGHT
    assert "--negative-prompt will have no effect with --speed draft" in caplog.text
    comfy.shown.clear()
    from comfy import model_management

    monkeypatch.setattr(model_management, "get_free_memory", lambda _: 1 << 28)
    long = torch.zeros(1, 1, 1, 3).expand(40, 90, 160, 3)
    with pytest.raises(
        MemoryLimitError, match=r"takes 0\.4 GiB .* and 0\.2 GiB are free: upscale fewer"
    ):
        upscaled(comfy, long, 8.0)
    assert not comfy.shown


def test_the_model_is_loaded_once(
    comfy: Comfy, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = starvsr.Restorer.from_name

    def counted(name: str, **how: Any) -> starvsr.Restorer:
        loaded.append(name)
        return load(name, **how)

    monkeypatch.setattr(starvsr.Restorer, "from_name", counted)
    model = comfy.model()
    for blend in (0.0, 0.5):
        upscaled(comfy, images[:2], model=model, blend=blend)
    assert loaded == ["nano"]


def test_the_bar_and_the_button(comfy: Comfy, images: torch.Tensor) -> None:
    model = comfy.model()
    whole = upscaled(comfy, images[:20], model=model)
    assert comfy.shown == sorted(comfy.shown)
    assert comfy.shown[-1] == 1
    # The network is called for a few frames at a time.
    assert len(set(comfy.shown)) > 3
    from comfy import model_management

    middle = next(number for number, each in enumerate(comfy.shown) if each > 0)
    comfy.shown.clear()
    comfy.interrupt(after=middle + 1)
    with pytest.raises(model_management.InterruptProcessingException):
        upscaled(comfy, images[:20], model=model)
    assert 0 < comfy.shown[-1] < 1
    assert torch.equal(whole, upscaled(comfy, images[:20], model=model))
