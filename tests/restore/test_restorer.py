"""The pipeline from frames to frames: equal to a plain loop, and not changed by how the work is cut up."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from starvsr.errors import MemoryLimitError, UsageError
from starvsr.models.build import build_network
from starvsr.options import ColorFix, LookOptions, SamplingOptions, WindowOptions
from starvsr.plan.fitting import smaller_network
from starvsr.plan.layout import largest_window, plain_layout, tile_spans
from starvsr.plan.settings import resolve
from starvsr.plan.strips import strip_margin
from starvsr.restore.levels import frames_to_tensor, tensor_to_frames
from starvsr.restore.noise import FrameNoise
from starvsr.restore.restorer import Restorer
from starvsr.restore.sharpen import sharpen_luma_
from starvsr.restore.velocity import Carried
from starvsr.specs import NANO
from starvsr.types import ModelSpec, RecurrentConfig, WindowSpec
from starvsr.zoo.load import LoadedModel, load_model, save_model
from tests.golden.seeded_init import fill_module
from tests.reference import plain_loop, unshuffled

SAMPLE = Path(__file__).parents[2] / "examples" / "butterfly.mp4"


@pytest.fixture(scope="module")
def toy(toy_path: Path) -> LoadedModel:
    """With texts that differ, so that guidance does something."""
    model = load_model(str(toy_path), device="cpu")
    generator = torch.Generator().manual_seed(1)
    positive, negative = torch.randn(2, 1, 3, 16, generator=generator)
    return dataclasses.replace(model, context=positive, negative_context=negative)


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return load_model("nano", device="cpu")


def clip(frames: int, height: int = 9, width: int = 12) -> Tensor:
    """A smooth moving picture in [-1, 1]."""
    t, y, x = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in (frames, height, width)), indexing="ij"
    )
    planes = [
        torch.sin(0.4 * x + 0.3 * c + 0.2 * t) * torch.cos(0.5 * y - 0.1 * c) for c in range(3)
    ]
    return 0.8 * torch.stack(planes, 1)


def run(restorer: Restorer, frames: Tensor, size: tuple[int, int], first: int = 0) -> Tensor:
    return torch.cat(list(restorer.restore(frames, size, first_frame=first)))


def with_spec(model: LoadedModel, **changes: object) -> LoadedModel:
    spec: ModelSpec = dataclasses.replace(model.spec, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(model, spec=spec)


OPTIONS = [
    SamplingOptions(),
    SamplingOptions(steps=5),
    SamplingOptions(solver_mode="normal", steps=4),
    SamplingOptions(cfg=1),
    SamplingOptions(noise_level=300, steps=3),
    SamplingOptions(seed=7, steps=3),
]


@pytest.mark.parametrize("sampling", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [(17, 23)])
def test_one_window_equals_the_plain_loop(
    toy: LoadedModel, sampling: SamplingOptions, size: tuple[int, int]
) -> None:
    frames = clip(5)
    with torch.inference_mode():
        expected = plain_loop(toy, frames, size, sampling, unshuffled(2))
    result = run(Restorer(toy, sampling), frames, size)
    assert (result - expected).norm() <= 1e-5 * expected.norm()


def test_every_sampling_option_changes_the_result(toy: LoadedModel) -> None:
    results = [run(Restorer(toy, sampling), clip(2), (10, 12)) for sampling in OPTIONS]
    for one in range(len(results)):
        for other in range(one):
            assert (results[one] - results[other]).abs().max() > 1e-3, (
                OPTIONS[one],
                OPTIONS[other],
            )


def test_an_interval_of_all_steps_or_none_is_guidance_or_none(toy: LoadedModel) -> None:
    def restored(**sampling: Any) -> Tensor:
        return run(Restorer(toy, SamplingOptions(steps=5, **sampling)), clip(2), (10, 12))

    assert torch.equal(restored(guidance_interval=(0, 1)), restored())
    assert torch.equal(restored(guidance_interval=(0, 0.01)), restored(cfg=1))
    assert not torch.equal(restored(guidance_interval=(0, 0.5)), restored())


def test_a_cache_of_nothing_changes_no_bit_and_one_of_more_leaves_out_calls(
    toy: LoadedModel,
) -> None:
    def restored(cache: float | None) -> tuple[Tensor, int, float]:
        """Result, network calls, last progress."""
        calls: list[int] = []
        seen: list[float] = []
        handle = toy.network.register_forward_hook(lambda *_: calls.append(1))
        restorer = Restorer(toy, SamplingOptions(steps=8, cache=cache))
        result = torch.cat(list(restorer.restore(clip(12), (18, 24), on_window=seen.append)))
        handle.remove()
        assert seen == sorted(seen)
        return result, len(calls), seen[-1]

    exact, all_calls, _ = restored(None)
    nothing, as_many, _ = restored(0.0)
    cached, fewer, done = restored(1.0)
    assert torch.equal(nothing, exact)
    assert as_many == all_calls
    assert all_calls * 3 // 7 <= fewer < all_calls, "at least the first two steps and the last"
    assert done == pytest.approx(1)
    assert torch.isfinite(cached).all()
    assert not torch.equal(cached, exact)


def test_a_cache_lives_for_one_run(toy: LoadedModel) -> None:
    """What was restored before leaves nothing in it, as a job that goes on must have it."""
    restorer = Restorer(toy, SamplingOptions(steps=6, cache=1.0))
    first = run(restorer, clip(4), (18, 24))
    run(restorer, clip(4).flip(0), (18, 24), first=7)
    assert torch.equal(run(restorer, clip(4), (18, 24)), first)


@pytest.mark.parametrize("published", [False, True])
def test_what_guidance_halves_share_changes_no_bit(toy: LoadedModel, published: bool) -> None:
    windows = WindowOptions(chunk_frames=4, parity=published)
    frames, size, sampling = clip(10), (24, 32), SamplingOptions(steps=4)
    layout = plain_layout(toy.spec, resolve(toy.spec, windows=windows), size, len(frames))
    apart, together = (
        run(
            Restorer(toy, sampling, windows=windows, layout=dataclasses.replace(layout, shared=s)),
            frames,
            size,
        )
        for s in (False, True)
    )
    assert torch.equal(apart, together)


def test_the_same_options_give_the_same_result(toy: LoadedModel) -> None:
    first, second = (
        run(Restorer(toy, SamplingOptions(steps=3)), clip(3), (18, 24)) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_33_to_40_frames_work(toy: LoadedModel) -> None:
    """The released code fails on these: they make one window whose end is a second chunk's."""
    sampling = SamplingOptions(steps=2, cfg=1)
    windows = WindowOptions(chunk_frames=32, chunk_overlap=16)
    for frames in (33, 40):
        assert (
            run(Restorer(toy, sampling, windows=windows), clip(frames), (18, 24)).shape[0] == frames
        )


def test_noise_belongs_to_the_absolute_frame() -> None:
    whole = FrameNoise(3, 10, torch.Size((1, 2, 6, 4, 5)))
    later = FrameNoise(3, 12, torch.Size((1, 2, 3, 4, 5)))
    for draw in range(3):
        assert torch.equal(whole(draw)[:, :, 2:5], later(draw))
    assert not torch.equal(whole(0), whole(1))
    assert not torch.equal(whole(0)[:, :, 0], whole(0)[:, :, 1])
    other_seed = FrameNoise(4, 10, torch.Size((1, 2, 6, 4, 5)))
    assert not torch.equal(whole(0), other_seed(0))
    samples = FrameNoise(0, 0, torch.Size((1, 4, 8, 32, 32)))(0)
    assert abs(float(samples.mean())) < 0.02
    assert abs(float(samples.std()) - 1) < 0.02


def test_temporal_windows_share_their_noise(toy: LoadedModel) -> None:
    """Cut into chunks the result differs from the whole only by what the network cannot see."""
    frames, sampling = clip(20), SamplingOptions(steps=4, cfg=1)
    whole = run(Restorer(toy, sampling, windows=WindowOptions(chunk_frames=20)), frames, (18, 24))
    cut = run(
        Restorer(toy, sampling, windows=WindowOptions(chunk_frames=8, chunk_overlap=4)),
        frames,
        (18, 24),
    )
    unrelated = run(Restorer(toy, dataclasses.replace(sampling, seed=1)), frames, (18, 24))
    assert (cut - whole).abs().mean() < 0.5 * (unrelated - whole).abs().mean()


def test_progress_counts_every_network_call(toy: LoadedModel) -> None:
    seen: list[float] = []
    list(Restorer(toy, SamplingOptions(steps=4)).restore(clip(12), (18, 24), on_window=seen.append))
    calls = 2 * 3 * 2
    assert len(seen) == calls, "two chunks, three steps, two halves of the guidance"
    assert seen == pytest.approx([call / calls for call in range(1, calls + 1)])


class Scarce(torch.nn.Module):
    """A network for which there is memory for `most` latent elements at once."""

    def __init__(self, network: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        if x[:, 0].numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        out: Tensor = self.network(x, *rest)
        return out

    def embed(self, context: Tensor) -> Tensor:
        return context

    def see(self, hint: Tensor) -> Tensor:
        return hint


def test_where_memory_runs_out_windows_are_halved(
    toy: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    frames, size = clip(12), (72, 96)
    layout = plain_layout(toy.spec, resolve(toy.spec), size, len(frames))
    first = smaller_network(toy.spec, layout)
    assert first is not None
    elements = math.prod(largest_window(toy.spec, first))
    scarce = dataclasses.replace(toy, network=Scarce(toy.network, elements))  # type: ignore[arg-type]
    seen: list[float] = []
    sampling = SamplingOptions(steps=5, cfg=1, cache=1.0)
    restorer = Restorer(scarce, sampling, layout=layout)
    halved = torch.cat(list(restorer.restore(frames, size, on_window=seen.append)))
    assert torch.equal(halved, run(Restorer(toy, sampling, layout=first), frames, size))
    assert len(caplog.records) == 1, "said once"
    assert "the network continues with windows of" in caplog.text
    assert seen[-1] == pytest.approx(1)
    assert restorer.layout == first, "kept for the next segment"


def test_memory_that_is_short_for_everything_ends_it(toy: LoadedModel) -> None:
    scarce = dataclasses.replace(toy, network=Scarce(toy.network, 4))  # type: ignore[arg-type]
    with pytest.raises(MemoryLimitError, match="smallest windows of the network"):
        run(Restorer(scarce, SamplingOptions(steps=2)), clip(4), (72, 96))


RECURRENT = dataclasses.replace(
    NANO,
    name="recurrent",
    network=RecurrentConfig(stem_width=8, width=8, deep_width=16, motion_width=4),
    windows=WindowSpec(4, 0, None, None, 4),
)


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A small seeded network whose frames depend on those before them."""
    path = tmp_path_factory.mktemp("models") / "recurrent.safetensors"
    save_model(path, RECURRENT, fill_module(build_network(RECURRENT.network), 0).state_dict())
    return load_model(str(path), device="cpu")


def test_a_recurrent_network_goes_on_from_run_to_run(recurrent: LoadedModel) -> None:
    frames, size = clip(10), (36, 48)
    restorer = Restorer(recurrent)
    whole = run(restorer, frames, size)
    for cuts in ([3, 10], [4, 5, 10]):
        carried, runs = Carried(), []
        for first, last in itertools.pairwise([0, *cuts]):
            part = restorer.restore(frames[first:last], size, first_frame=first, carried=carried)
            runs += list(part)
        assert torch.equal(torch.cat(runs), whole)
    assert not torch.equal(run(restorer, frames[3:], size), whole[3:]), "memory does something"


def test_what_is_carried_belongs_to_one_place_and_time(recurrent: LoadedModel) -> None:
    """Frames that do not follow on, or another tile, start without memory."""
    frames, size = clip(8), (36, 48)
    restorer, carried = Restorer(recurrent), Carried()
    list(restorer.restore(frames[:4], size, carried=carried))
    elsewhere = torch.cat(list(restorer.restore(frames[4:], size, first_frame=5, carried=carried)))
    assert torch.equal(elsewhere, run(restorer, frames[4:], size))
    tiled = Restorer(recurrent, windows=WindowOptions(tile_px=48, tile_overlap_px=16))
    carried = Carried()
    two_runs = [
        picture
        for first in (0, 4)
        for picture in tiled.restore(
            frames[first : first + 4], size, first_frame=first, carried=carried
        )
    ]
    torch.testing.assert_close(torch.cat(two_runs), run(tiled, frames, size), rtol=0, atol=1e-5)


def test_an_attempt_that_fails_leaves_no_memory_behind(recurrent: LoadedModel) -> None:
    frames, size = clip(8), (72, 96)
    layout = plain_layout(recurrent.spec, resolve(recurrent.spec), size, 4)
    first = smaller_network(recurrent.spec, layout)
    assert first is not None
    elements = math.prod(largest_window(recurrent.spec, first))
    scarce = dataclasses.replace(recurrent, network=Scarce(recurrent.network, elements))  # type: ignore[arg-type]
    restorer, carried = Restorer(scarce, layout=layout), Carried()
    runs = [
        picture
        for at in (0, 4)
        for picture in restorer.restore(frames[at : at + 4], size, first_frame=at, carried=carried)
    ]
    assert restorer.layout == first
    assert torch.equal(torch.cat(runs), run(Restorer(recurrent, layout=first), frames, size))


def test_color_fix_and_blend(toy: LoadedModel) -> None:
    frames, size = clip(2), (18, 24)
    sampling = SamplingOptions(steps=2)
    plain = functional.interpolate(frames, size=size, mode="bilinear", align_corners=False)
    blended = run(Restorer(toy, sampling, LookOptions(blend=1.0)), frames, size)
    torch.testing.assert_close(blended, plain.clamp(-1, 1), rtol=0, atol=1e-6)
    none = run(Restorer(toy, sampling, LookOptions(color_fix="none")), frames, size)
    fixed = run(Restorer(toy, sampling, LookOptions(color_fix="adain")), frames, size)
    assert (none - fixed).abs().max() > 1e-3
    wavelet = run(Restorer(toy, sampling, LookOptions(color_fix="wavelet")), frames, size)
    assert (wavelet - fixed).abs().max() > 1e-3


def test_sharpening_follows_the_scale_and_comes_before_the_blend(toy: LoadedModel) -> None:
    frames, sampling = clip(2), SamplingOptions(steps=2)
    for size, sigma in (((18, 24), 0.75), ((36, 48), 1.5)):
        plain = run(Restorer(toy, sampling), frames, size)
        sharp = run(Restorer(toy, sampling, LookOptions(sharpen=0.5)), frames, size)
        expected = sharpen_luma_(plain.clone(), 0.5, sigma=sigma).clamp(-1, 1)
        assert (sharp - plain).abs().max() > 1e-3
        torch.testing.assert_close(sharp, expected, rtol=0, atol=1e-6)
    upsampled = run(Restorer(toy, sampling, LookOptions(blend=1.0)), frames, size)
    both = run(Restorer(toy, sampling, LookOptions(blend=1.0, sharpen=0.5)), frames, size)
    assert torch.equal(both, upsampled)


def test_compiling_is_told_from_the_work_that_it_is_done_for(
    toy: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = iter([5.0, 5.0, 5.0, 8.0])
    clock = iter([10.0, 11.0, 20.0, 24.0])
    monkeypatch.setattr("starvsr.restore.restorer.compiling_s", lambda: next(compiled))
    monkeypatch.setattr("starvsr.restore.restorer.time.perf_counter", lambda: next(clock))
    restorer = Restorer(toy)
    with restorer.timed("network"):
        pass
    assert restorer.seconds == {"network": 1.0}
    with restorer.timed("network"):
        pass
    assert restorer.seconds == {"network": 2.0, "compile": 3.0}


def test_clean_start(toy: LoadedModel) -> None:
    one = Restorer(
        with_spec(
            toy,
            solver="one_step",
            start="clean",
            noise_level=101,
            steps=1,
            cfg=1.0,
            color_fix="none",
        )
    )
    assert run(one, clip(2), (18, 24)).isfinite().all()


def test_a_schedule_that_does_not_fit_is_refused(toy: LoadedModel) -> None:
    with pytest.raises(UsageError, match="--steps and --noise-level do not fit"):
        Restorer(toy, SamplingOptions(steps=1000, solver_mode="normal", noise_level=1000))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 3), (9, 12)])
@pytest.mark.parametrize("scale", [1, 1.5, 3, 4])
def test_any_size_and_scale(toy: LoadedModel, height: int, width: int, scale: float) -> None:
    restorer = Restorer(toy, SamplingOptions(steps=1))
    result = restorer(clip(2, height, width) / 2 + 0.5, scale=scale)
    assert result.shape == (
        2,
        3,
        max(1, int(height * scale + 0.5)),
        max(1, int(width * scale + 0.5)),
    )
    assert result.min() >= 0
    assert result.max() <= 1


def test_call_refuses_what_it_cannot_take(toy: LoadedModel) -> None:
    restorer = Restorer(toy)
    with pytest.raises(ValueError, match="t 3 h w"):
        restorer(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="t > 0"):
        restorer(torch.zeros(0, 3, 8, 8))
    with pytest.raises(UsageError, match="--scale 0"):
        restorer(torch.zeros(1, 3, 8, 8), scale=0)


@pytest.mark.parametrize("truncated", [False, True])
def test_decoded_pictures_become_levels_as_published(toy: LoadedModel, truncated: bool) -> None:
    """`tensor2vid` of the original: what is beyond [-1, 1] is held before anything looks at it."""
    golden = load_file(Path(__file__).parents[1] / "golden" / "color_fix.safetensors")
    decoded, levels = golden["tensor2vid_in"][0].transpose(0, 1), golden["tensor2vid_out"]
    assert decoded.min() < -1 and decoded.max() > 1
    size, frames = (decoded.shape[2], decoded.shape[3]), torch.zeros(len(decoded), 3, 2, 2)
    restorer = Restorer(toy, look=LookOptions(color_fix="none"))
    layout = plain_layout(toy.spec, resolve(toy.spec), size, len(frames))
    (pictures,) = restorer._finish(iter([decoded.clone()]), frames, size, layout, 1.0)
    held = (pictures.permute(0, 2, 3, 1) + 1) * 127.5
    torch.testing.assert_close(held, levels, rtol=0, atol=2e-5)
    written = np.stack(list(tensor_to_frames(pictures, truncated=truncated))) / 257
    wanted = levels.floor() if truncated else levels
    assert np.abs(written - wanted.numpy()).max() <= 0.5 / 257 + 2e-5


@pytest.mark.parametrize("fix", ["adain", "wavelet"])
def test_a_colour_fix_sees_what_can_be_seen(
    toy: LoadedModel, fix: ColorFix, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def color_fix(name: str, target: Tensor, *sources: Tensor) -> Tensor:
        seen.append(target.clone())
        return target

    monkeypatch.setattr("starvsr.restore.look.apply_color_fix", color_fix)
    restorer = Restorer(toy, SamplingOptions(steps=2, cfg=30), LookOptions(color_fix=fix))
    run(restorer, clip(3), (18, 24))
    assert float(seen[0].min()) == -1 and float(seen[0].max()) == 1


def test_sixteen_bit_frames_round_trip() -> None:
    levels = torch.arange(65536, dtype=torch.int32).reshape(64, 1024).numpy().astype(np.uint16)
    frame = np.repeat(levels[..., None], 3, axis=2)
    (back,) = tensor_to_frames(frames_to_tensor([frame]))
    assert back.dtype == np.uint16
    assert np.array_equal(back, frame)


def sample_frames(count: int) -> Tensor:
    """The first frames of the shipped sample, `t 3 h w` in [0, 1]."""
    with av.open(str(SAMPLE)) as container:
        decoded = itertools.islice(container.decode(video=0), count)
        frames = [frame.to_ndarray(format="rgb24") for frame in decoded]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255


def psnr_y(one: Tensor, other: Tensor) -> float:
    weights = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    error = ((one - other) * weights).sum(1).pow(2).mean()
    return float(10 * torch.log10(255**2 / error))


@pytest.mark.slow
def test_nano_shows_no_seams_on_a_real_clip(nano: LoadedModel) -> None:
    """2x3 tiles against whole pictures: PSNR-Y within 0.05 dB, and at every border of a tile neighbours differ as much
    as they do in the whole result. Chunks change nothing at all."""
    truth = sample_frames(6)
    small = functional.interpolate(truth, scale_factor=0.25, mode="bicubic", antialias=True)
    whole = Restorer(nano, windows=WindowOptions(chunk_frames=6))(small)
    assert torch.equal(Restorer(nano, windows=WindowOptions(chunk_frames=2))(small), whole)
    options = WindowOptions(tile_px=112, tile_overlap_px=32)
    cut = Restorer(nano, windows=options)(small)
    plain = functional.interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)

    assert psnr_y(whole, truth) > psnr_y(plain, truth) + 0.1
    assert abs(psnr_y(cut, truth) - psnr_y(whole, truth)) < 0.05

    latent = (38, 64)
    tiles = tile_spans(nano.spec, resolve(nano.spec, windows=options).windows, latent)
    for axis, spans in zip((2, 3), tiles, strict=True):
        assert len(spans) >= 2
        places = [4 * edge for span in spans for edge in span if 0 < edge < latent[axis - 2]]
        ratio = _jump(cut, axis, places) / _jump(whole, axis, places)
        assert 0.97 < ratio < 1.03, (axis, places, ratio)


def _jump(pictures: Tensor, axis: int, places: list[int]) -> float:
    index = torch.tensor(places)
    behind, before = pictures.index_select(axis, index), pictures.index_select(axis, index - 1)
    return float((behind - before).abs().mean())


def test_nano_matches_its_formula(nano: LoadedModel) -> None:
    """`x0 = alpha z - sigma v(z, t = 100)` on the bicubic input."""
    frames = sample_frames(1)[:, :, :40, :48] * 2 - 1
    upsampled = functional.interpolate(frames, scale_factor=4, mode="bicubic").clamp(-1, 1)
    z = functional.pixel_unshuffle(upsampled, 4)[:, :, None]
    with torch.inference_mode():
        v = nano.network(z, torch.tensor([100]), torch.zeros(1, 1, 1))
    x0 = functional.pixel_shuffle((0.9465 * z - 0.3226 * v)[:, :, 0], 4)
    result = run(Restorer(nano), frames, (160, 192))
    assert (result - x0.clamp(-1, 1)).abs().max() < 2e-4, "the two constants have four digits"


@pytest.mark.parametrize(
    ("frames", "kind", "told"),
    [
        (np.zeros((1, 8, 8, 3), np.uint8), TypeError, "got ndarray: of a NumPy array"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError, "got torch.uint8: of 8 bits"),
        (torch.zeros(1, 8, 8, 3), ValueError, r"t 3 h w with t > 0, got \(1, 8, 8, 3\)"),
        (torch.zeros(1, 3, 0, 8), ValueError, "t 3 h w"),
        (torch.full((1, 3, 8, 8), 200.0), ValueError, "got 200 to 200: scale them"),
        (torch.full((1, 3, 8, 8), -1.0), ValueError, "got -1 to -1: scale them"),
        (torch.full((1, 3, 8, 8), math.nan), ValueError, "NaN or infinity"),
    ],
    ids=["array", "integers", "shape", "empty", "255", "signed", "nan"],
)
def test_what_would_be_misread_is_refused(
    nano: LoadedModel, frames: Any, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        Restorer(nano)(frames)


@pytest.mark.parametrize(
    ("size", "look"),
    [
        ((1200, 96), LookOptions()),
        ((1200, 96), LookOptions(color_fix="wavelet", sharpen=1.0, blend=0.25)),
        ((600, 48), LookOptions(sharpen=-0.5)),
        ((1001, 77), LookOptions(color_fix="wavelet", blend=0.5)),
    ],
)
def test_strips_are_the_whole_picture(
    nano: LoadedModel,
    size: tuple[int, int],
    look: LookOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("starvsr.plan.strips.STRIP_ELEMENTS", 1)
    frame = clip(1, 300, 24) + 0.1 * torch.randn(1, 3, 300, 24).clamp(-1, 1)
    frame = frame.clamp(-1, 1)
    (whole,) = Restorer(nano, look=look).restore(frame, size)
    settings = resolve(nano.spec, look=look)
    layout = plain_layout(nano.spec, settings, size, 1)
    margin = strip_margin(nano.spec, settings, look, layout.latent, size[0] / 300)
    assert 40 <= margin <= 64
    layout = dataclasses.replace(layout, margin=margin)
    restorer, shares = Restorer(nano, look=look, layout=layout), list[float]()
    strips = list(restorer.strips(frame, size, on_window=shares.append))
    assert len(strips) == len(layout.strips) > 2
    assert restorer.layout == layout
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    torch.testing.assert_close(torch.cat(strips, 2), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("blend", [0.0, 0.5])
def test_a_model_scale_is_restoring_and_reducing_by_hand(nano: LoadedModel, blend: float) -> None:
    frames = (clip(3, 24, 30) + 1) / 2
    restorer = Restorer(nano, look=LookOptions(blend=blend))
    whole = restorer(frames, scale=4) * 2 - 1
    by_hand = torch.nn.functional.interpolate(
        whole, size=(48, 60), mode="bicubic", align_corners=False, antialias=True
    )
    found = restorer(frames, scale=2, model_scale=4)
    torch.testing.assert_close(found, (by_hand.clamp(-1, 1) + 1) / 2, rtol=0, atol=1e-6)
    assert not torch.equal(found, restorer(frames, scale=2))
    assert torch.equal(restorer(frames, scale=4, model_scale=4), restorer(frames, scale=4))
    assert restorer(frames, scale=4, model_scale=2).shape == (3, 3, 96, 120)
