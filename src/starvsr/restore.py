"""Frames in, restored frames out: resize, encode, sample over windows, decode, match colours. No files, no CLI."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from starvsr.blend import windowed, windowed_stream
from starvsr.colorfix import apply_color_fix
from starvsr.errors import UsageError
from starvsr.guidance import guided
from starvsr.options import LookOptions, SamplingOptions, SizeOptions, WindowOptions
from starvsr.plan import (
    DEFAULT_SCALE,
    attention_pieces,
    calls_per_window,
    chunk_spans,
    output_size,
    resolve_windows,
    tile_spans,
)
from starvsr.sampling import SOLVERS, scale_clean, scale_noised, v_denoiser
from starvsr.schedule import logsnr_cosine_interp
from starvsr.upsample import upsample, upsample_unshuffled
from starvsr.windows import Block, Grid, legal_latent
from starvsr.zoo.load import LoadedModel, load_model

DEFAULT_SEED = 666

WindowCallback = Callable[[int, int], None]
Frame = npt.NDArray[np.uint16]
"""`h w 3` RGB, 0..65535."""


@dataclass
class Restorer:
    """Restores runs of consecutive frames with one loaded model; keeps no state between runs.

    restorer = Restorer.from_name("nano")
    restored = restorer(frames)            # t c h w in [0, 1] -> t c 4h 4w in [0, 1]
    """

    model: LoadedModel
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    look: LookOptions = field(default_factory=LookOptions)
    windows: WindowOptions = field(default_factory=WindowOptions)
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time spent so far in each part of the work."""

    @classmethod
    def from_name(
        cls,
        name: str = "auto",
        *,
        device: str = "auto",
        sampling: SamplingOptions | None = None,
        look: LookOptions | None = None,
        windows: WindowOptions | None = None,
    ) -> Restorer:
        """A restorer for a model's name or file. Raises WeightsError, UsageError."""
        return cls(
            load_model(name, device=device),
            sampling or SamplingOptions(),
            look or LookOptions(),
            windows or WindowOptions(),
        )

    def __post_init__(self) -> None:
        spec = self.model.spec
        self.schedule = logsnr_cosine_interp()
        self.cfg = spec.cfg if self.sampling.cfg is None else self.sampling.cfg
        self.cfg_rescale = (
            spec.cfg_rescale if self.sampling.cfg_rescale is None else self.sampling.cfg_rescale
        )
        self.seed = DEFAULT_SEED if self.sampling.seed is None else self.sampling.seed
        self.color_fix = self.look.color_fix or spec.color_fix
        self.noise_level = self.sampling.noise_level or spec.noise_level
        self.solver = SOLVERS[spec.solver]
        try:
            self.sigmas = self.schedule.sigmas_for(
                self.sampling.steps or spec.steps,
                noise_level=self.noise_level,
                solver_mode=self.sampling.solver_mode or "fast",
                discard_penultimate=self.solver.discard_penultimate,
            )
        except ValueError as error:
            raise UsageError(f"--steps and --noise-level do not fit: {error}") from error

    def __call__(
        self, frames: Tensor, *, scale: float = DEFAULT_SCALE, first_frame: int = 0
    ) -> Tensor:
        """Restore a whole clip in memory.

        frames: `t c h w`, RGB in [0, 1], any float dtype and device. first_frame: absolute index of the first
        one, by which noise is drawn. Returns `t c H W` float32 in [0, 1] on the CPU, H and W rounded from
        `scale` times the input. Raises ValueError for another shape, UsageError for a scale not above 0 or a side
        over 65535.
        """
        if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
            raise ValueError(f"frames must be t 3 h w with t > 0, got {tuple(frames.shape)}")
        width, height = output_size(
            frames.shape[3], frames.shape[2], SizeOptions(scale=scale), even=False
        )
        runs = self.restore(frames.float().cpu() * 2 - 1, (height, width), first_frame=first_frame)
        return torch.cat([(run + 1) / 2 for run in runs])

    @torch.inference_mode()
    def restore(
        self,
        frames: Tensor,
        size: tuple[int, int],
        *,
        first_frame: int = 0,
        on_window: WindowCallback | None = None,
    ) -> Iterator[Tensor]:
        """Restore consecutive frames of one shot and yield runs of them in order.

        frames: `t c h w` float32 in [-1, 1] on the CPU. size: rows and columns of the output. first_frame: the
        absolute index by which noise is drawn. on_window(done, total) is called after every network call.
        Yields `t c H W` float32 in [-1, 1] on the CPU. Memory: the latents of all frames, and of full-size
        pictures no more than one chunk.
        """
        spec = self.model.spec
        factor = spec.autoencoder.factor
        latent = legal_latent(
            -(-size[0] // factor), -(-size[1] // factor), spec.size_rule, spec.min_size
        )
        windows = resolve_windows(spec, self.windows, latent)
        grid = Grid(chunk_spans(len(frames), windows), *tile_spans(spec, windows, latent))
        self.model.network.use_attention_pieces(*attention_pieces(windows, latent))
        with self.timed("encode latents"):
            z_lr = self._encode(frames, size, latent)
        z_0 = self._sample(z_lr, grid, first_frame, on_window)
        del z_lr
        yield from self._finish(z_0, frames, size, grid)

    def _upsample(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """Plain upsampling to the output size, `t c H W` in [-1, 1]."""
        return upsample(frames, size, self.model.spec.upsampling)

    def _encode(self, frames: Tensor, size: tuple[int, int], latent: tuple[int, int]) -> Tensor:
        """The latents of the upsampled, padded frames, `1 c t h w`, made frame by frame."""
        spec, autoencoder, device = self.model.spec, self.model.autoencoder, self.model.device
        factor = spec.autoencoder.factor
        pad = (0, latent[1] * factor - size[1], 0, latent[0] * factor - size[0])
        same_factor = size == (factor * frames.shape[2], factor * frames.shape[3])
        z = torch.empty(1, autoencoder.latent_channels, len(frames), *latent, device=device)
        for index in range(len(frames)):
            frame = frames[index : index + 1]
            if spec.autoencoder.kind == "pixel_unshuffle" and same_factor:
                z[:, :, index] = upsample_unshuffled(frame, factor, latent, spec.upsampling)
                continue
            upsampled = functional.pad(self._upsample(frame, size), pad, mode="replicate")
            picture = upsampled[:, :, None].to(device)
            z[:, :, index : index + 1] = windowed(
                lambda block, _: autoencoder.encode(block),
                picture,
                Grid.whole(*picture.shape[2:]),
                scale=(Fraction(1), Fraction(1, factor), Fraction(1, factor)),
            )
        return z

    def _sample(
        self, z_lr: Tensor, grid: Grid, first_frame: int, on_window: WindowCallback | None
    ) -> Tensor:
        """Walk the noise levels from the model's start to the restored latents, `1 c t h w`."""
        velocity = self._velocity(z_lr, grid, on_window)
        noise = FrameNoise(self.seed, first_frame, z_lr.shape, z_lr.device)
        first_sigma = float(self.sigmas[0])
        if self.model.spec.start == "clean":
            x = scale_clean(z_lr, first_sigma)
        else:
            x_t = self.schedule.add_noise(z_lr, noise(0), self.noise_level - 1)
            x = scale_noised(x_t, first_sigma)
        return self.solver.sample(
            v_denoiser(velocity, self.schedule), x, self.sigmas, noise=lambda step: noise(step + 1)
        )

    def _velocity(
        self, z_lr: Tensor, grid: Grid, on_window: WindowCallback | None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The guided velocity over all windows as a function of `x_t` and `t`."""
        model = self.model
        done, total = 0, len(grid) * calls_per_window(model.spec, self.sampling)

        def over_windows(x_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
            def call(block: Tensor, where: Block) -> Tensor:
                nonlocal done
                hint = where.of(z_lr) if model.spec.network.control else None
                with self.timed("network"):
                    v: Tensor = model.network(block, t, context, hint)
                done += 1
                if on_window is not None:
                    on_window(done, total)
                return v

            return windowed(call, x_t, grid)

        return guided(
            partial(over_windows, context=model.context),
            partial(over_windows, context=model.negative_context),
            scale=self.cfg,
            rescale=self.cfg_rescale,
        )

    def _finish(
        self, z_0: Tensor, frames: Tensor, size: tuple[int, int], grid: Grid
    ) -> Iterator[Tensor]:
        """Decode, crop, match colours and blend, chunk by chunk."""
        autoencoder, factor = self.model.autoencoder, Fraction(self.model.spec.autoencoder.factor)
        whole_tiles = Grid(grid.frames, ((0, grid.size[1]),), ((0, grid.size[2]),))
        done = 0
        runs = windowed_stream(
            lambda block, _: autoencoder.decode(block),
            z_0,
            whole_tiles,
            scale=(Fraction(1), factor, factor),
        )
        while True:
            with self.timed("decode latents"):
                run = next(runs, None)
            if run is None:
                return
            with self.timed("finish"):
                pictures = run[0, :, :, : size[0], : size[1]].transpose(0, 1).float().cpu()
                source = frames[done : done + len(pictures)]
                done += len(pictures)
                finished = self._match(pictures, source, size)
            yield finished

    def _match(self, pictures: Tensor, source: Tensor, size: tuple[int, int]) -> Tensor:
        """Colour fix and `--blend` against the input, clamped to [-1, 1]."""
        if self.color_fix == "wavelet" or self.look.blend > 0:
            upsampled = self._upsample(source, size)
        else:
            # Neither adain nor none looks at it.
            upsampled = pictures
        pictures = apply_color_fix(self.color_fix, pictures, source, upsampled)
        if self.look.blend > 0:
            pictures = torch.lerp(pictures, upsampled, self.look.blend)
        return pictures.clamp(-1, 1)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the wall time of the `with` block to `seconds`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


class FrameNoise:
    """Unit normal noise by seed, draw and absolute frame index, so that no cutting up changes it.

    `noise(draw)` is `b c t h w` of the given shape on the given device, drawn on the CPU.
    """

    def __init__(
        self, seed: int, first_frame: int, shape: torch.Size, device: torch.device | str
    ) -> None:
        self.seed, self.first_frame, self.shape, self.device = seed, first_frame, shape, device

    def __call__(self, draw: int) -> Tensor:
        batch, channels, frames, height, width = self.shape
        noise = torch.empty(self.shape)
        for offset in range(frames):
            key = np.random.SeedSequence((self.seed % 2**64, draw, self.first_frame + offset))
            values = np.random.Generator(np.random.Philox(key)).standard_normal(
                (batch, channels, height, width), dtype=np.float32
            )
            noise[:, :, offset] = torch.from_numpy(values)
        return noise.to(self.device)


def frames_to_tensor(frames: list[Frame]) -> Tensor:
    """Decoded frames (`h w c` uint16, 0..65535) as `t c h w` float32 in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(frames).astype(np.float32))
    return stacked.permute(0, 3, 1, 2).div_(32767.5).sub_(1).contiguous()


def tensor_to_frames(pictures: Tensor) -> Iterator[Frame]:
    """`t c h w` float32 in [-1, 1] as frames (`h w c` uint16, 0..65535), rounded to nearest."""
    for picture in pictures:
        levels = picture.permute(1, 2, 0).add(1).mul_(32767.5).add_(0.5).clamp_(0, 65535)
        yield levels.contiguous().numpy().astype(np.uint16)
