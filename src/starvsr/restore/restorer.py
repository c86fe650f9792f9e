"""Frames in, restored frames out: resize, encode, sample over windows, decode, match colours. No files, no CLI."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from starvsr.errors import UsageError
from starvsr.models.compiled import compiling_s
from starvsr.models.device import device_info
from starvsr.options import (
    DEFAULT_SCALE,
    DeviceOptions,
    LookOptions,
    SamplingOptions,
    SizeOptions,
    WeightsOptions,
    WindowOptions,
)
from starvsr.plan.fitting import fitted_layout
from starvsr.plan.layout import Layout, plain_layout
from starvsr.plan.plan import most_at_once, output_size, run_spans, segment_frames, usable_bytes
from starvsr.plan.settings import resolve
from starvsr.restore.fallback import Attempts
from starvsr.restore.guidance import dynamic_scale
from starvsr.restore.latents import LatentCoder
from starvsr.restore.levels import check_clip
from starvsr.restore.look import finished_look
from starvsr.restore.noise import FrameNoise
from starvsr.restore.sampling import SOLVERS, scale_noised, v_denoiser, visited_levels
from starvsr.restore.schedule import logsnr_cosine_interp
from starvsr.restore.step_cache import ReusingDenoiser
from starvsr.restore.stream import Course, FrameStream
from starvsr.restore.upsample import resized, upsample_rows
from starvsr.restore.velocity import Carried, WindowCallback, WindowedVelocity
from starvsr.zoo.choose import choose_model
from starvsr.zoo.load import LoadedModel, load_choice


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
    layout: Layout | None = None
    """How the work is split, as planned; None: by `windows`. Replaced by a smaller one if memory runs out."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time spent so far in each part of the work."""
    device: DeviceOptions | None = None
    """How the model was asked to run, for which a stream's windows are planned; None: as it does."""
    on_window: WindowCallback | None = None
    """Called after every network call of a stream, with the fraction (0..1) that is done of the calls for the frames at
    work; what it raises ends the stream."""

    @classmethod
    def from_name(
        cls,
        name: str = "auto",
        *,
        device: DeviceOptions | str = "auto",
        sampling: SamplingOptions | None = None,
        look: LookOptions | None = None,
        windows: WindowOptions | None = None,
        weights: WeightsOptions | None = None,
    ) -> Restorer:
        """A restorer for a model's name or file. Raises WeightsError, UsageError.

        device: its name, or all that `DeviceOptions` says; `offload` of `auto` is `none` here. Nothing is downloaded.
        """
        options = DeviceOptions(device=device) if isinstance(device, str) else device
        if options.offload == "auto":
            options = dataclasses.replace(options, offload="none")
        sampling, info = sampling or SamplingOptions(), device_info(options.device)
        model = load_choice(
            choose_model(name, info, weights),
            info,
            options,
            offload=options.offload,
            detail=look.detail if look else None,
            prompt=sampling.prompt,
            negative_prompt=sampling.negative_prompt,
        )
        look, windows = look or LookOptions(), windows or WindowOptions()
        return cls(model, sampling, look, windows, device=options)

    def __post_init__(self) -> None:
        self.model.check_detail(self.look.detail)
        self.settings = resolve(self.model.spec, self.sampling, self.windows, self.look)
        self.solver = SOLVERS[self.model.spec.solver]
        try:
            self.schedule, self.sigmas = visited_levels(self.model.spec, self.settings)
        except ValueError as error:
            raise UsageError(f"--steps and --noise-level do not fit: {error}") from error
        guided = self.sigmas[slice(*self.settings.guided_steps)].tolist()
        self.guided_times = {self.schedule.network_time(sigma) for sigma in guided}

    def guidance_scale(self, t: int) -> float:
        """The guidance scale at an integer time; 1: none."""
        if t not in self.guided_times:
            return 1.0
        if self.settings.cfg_dynamic:
            return dynamic_scale(t, steps=self.settings.evaluations, scale=self.settings.cfg)
        return self.settings.cfg

    def __call__(
        self,
        frames: Tensor,
        *,
        scale: float = DEFAULT_SCALE,
        model_scale: float | None = None,
        first_frame: int = 0,
    ) -> Tensor:
        """Restore a whole clip in memory.

        frames: `t c h w`, RGB in [0, 1], any float dtype and device. first_frame: absolute index of the first
        one, by which noise is drawn. model_scale: at which the model restores, if not at `scale`. Returns `t c H W`
        float32 in [0, 1] on the CPU, H and W rounded from `scale` times the input. Raises TypeError for integers and
        arrays, ValueError for another shape or range, UsageError for a scale not above 0 or a side over 65535.
        """
        check_clip(frames)
        width, height = output_size(
            frames.shape[3], frames.shape[2], SizeOptions(scale=scale), even=False
        )
        own = SizeOptions(scale=scale if model_scale is None else model_scale)
        columns, rows = output_size(frames.shape[3], frames.shape[2], own, even=False)
        runs = self.restore(frames.float().cpu() * 2 - 1, (rows, columns), first_frame=first_frame)
        return torch.cat([(resized(run, (height, width)) + 1) / 2 for run in runs])

    def stream(
        self,
        frames: Iterable[Any],
        *,
        scale: float = DEFAULT_SCALE,
        model_scale: float | None = None,
        cuts: Iterable[int] = (),
        length: int | None = None,
    ) -> Iterator[Any]:
        """Restore frames as they come: an iterator in, an iterator out, in the memory of a segment.

        frames: NumPy arrays `h w 3` or tensors `3 h w` of one size, RGB, of uint8 (0..255), uint16 (0..65535) or floats
        (0..1). cuts: increasing numbers of the frames that begin a new shot, the first frame being 0. length: how many
        frames there are, if this is known; of a sequence, its own. Yields as many, in their order and form (floats as
        float32 in [0, 1]), each as soon as it is final. With `length`, they are bit for bit those that `upscale_video`
        with repeats `off` restores of such a video before it encodes them; `FrameStream` says what holds without.
        Raises as `FrameStream.push` when a frame is drawn, UsageError for a wrong scale or options.
        """
        if length is None and isinstance(frames, Sized):
            length = len(frames)
        opened = self.open_stream(scale=scale, model_scale=model_scale, cuts=cuts, length=length)
        return opened.over(frames)

    def open_stream(
        self,
        *,
        scale: float = DEFAULT_SCALE,
        model_scale: float | None = None,
        cuts: Iterable[int] = (),
        length: int | None = None,
    ) -> FrameStream:
        """As `stream`, for callers that hand over frames instead of an iterator."""
        own = SizeOptions(scale=scale if model_scale is None else model_scale)
        sizes = (own, SizeOptions(scale=scale))
        if self.settings.parity:
            raise UsageError("parity restores all frames together: a stream cannot have it")
        return FrameStream(partial(self._course, sizes, length), cuts=cuts, length=length)

    def _course(
        self, sizes: tuple[SizeOptions, SizeOptions], length: int | None, rows: int, columns: int
    ) -> Course:
        """How a stream of frames of `rows` x `columns` is restored, planned as a job. Raises UsageError."""
        spec, model = self.model.spec, self.model
        size, final = (output_size(columns, rows, each, even=False)[::-1] for each in sizes)
        frames, device = length or sys.maxsize, device_info(str(model.device))
        # What moves weights may do so for the whole network, or for blocks of it.
        options = self.device or DeviceOptions(offload="auto" if model.movers else "none")
        layout = fitted_layout(
            spec,
            self.settings,
            size,
            most_at_once(spec, self.windows, frames),
            options,
            bytes_per_element=model.dtype.itemsize,
            limit_bytes=usable_bytes(options.memory_limit_bytes or device.memory_bytes, device),
        )
        longest, context = segment_frames(spec, self.windows, layout, frames)
        # Windows that had to become smaller stay so for the stream.
        own = dataclasses.replace(self, layout=layout)
        return Course(
            longest,
            context,
            is_causal=spec.network.recurrent,
            runs=partial(run_spans, layout),
            restore=lambda frames, first, carried: own.pictures(
                frames, size, final, first_frame=first, on_window=self.on_window, carried=carried
            ),
        )

    @torch.inference_mode()
    def restore(
        self,
        frames: Tensor,
        size: tuple[int, int],
        *,
        first_frame: int = 0,
        on_window: WindowCallback | None = None,
        carried: Carried | None = None,
        scale: float | None = None,
    ) -> Iterator[Tensor]:
        """Restore consecutive frames of one shot and yield runs of them in order.

        frames: `t c h w` float32 in [-1, 1] on the CPU. size: rows and columns of the output. first_frame: the absolute
        index by which noise is drawn. on_window(share) is called after every network call, with the fraction (0..1) of
        all calls that are done. carried: the state of the previous run of the same shot, which this one continues.
        scale: rows of the output per row of the source, if `frames` were made larger already.
        Yields `t c H W` float32 in [-1, 1] on the CPU. Memory: the latents of all frames, and of full-size pictures no
        more than one chunk.
        """
        layout = self.layout or self._plain_layout(size, len(frames))
        attempts = Attempts(self.model.spec, layout)
        coder = LatentCoder(self.model.autoencoder, attempts, self.settings.seed)
        try:
            with self.model.at_work("autoencoder"), self.timed("encode latents"):
                z_lr = coder.encode(frames, size, first_frame)
            with self.model.at_work("network"):
                z_0 = self._sample(z_lr, attempts, first_frame, on_window, carried)
            del z_lr
            with self.model.at_work("autoencoder"):
                scale = scale or size[0] / frames.shape[2]
                yield from self._finish(coder.decode(z_0), frames, size, layout, scale)
        finally:
            if self.layout is not None:
                # A layout that was too large is not tried again.
                self.layout = attempts.layout

    def pictures(
        self,
        frames: Tensor,
        size: tuple[int, int],
        final_size: tuple[int, int],
        *,
        first_frame: int = 0,
        on_window: WindowCallback | None = None,
        carried: Carried | None = None,
    ) -> Iterator[Tensor]:
        """As `restore`, each picture (`c H W`) by itself and resized to `final_size` (rows and columns)."""
        for run in self.restore(
            frames, size, first_frame=first_frame, on_window=on_window, carried=carried
        ):
            for picture in run:
                with self.timed("finish"):
                    (picture,) = resized(picture[None], final_size)
                yield picture

    @torch.inference_mode()
    def strips(
        self, frame: Tensor, size: tuple[int, int], *, on_window: WindowCallback | None = None
    ) -> Iterator[Tensor]:
        """Restore one picture in the strips of the layout and yield them from top to bottom.

        frame: `1 c h w`; size, on_window: as in `restore`. Yields `1 c rows W` float32 in [-1, 1] on the CPU: the rows
        that `restore` would give, to 1e-4. Memory: that of one strip with its margins.
        """
        if self.layout is None:
            raise ValueError("strips are those of a layout")
        factor, every = self.model.spec.autoencoder.factor, self.layout.strips
        scale = size[0] / frame.shape[2]
        for number, strip in enumerate(every):
            whole = self.layout
            first, last = (min(size[0], factor * row) for row in strip.outer)
            if size == (factor * frame.shape[2], factor * frame.shape[3]):
                part = frame[:, :, slice(*strip.outer)]
            else:
                part = upsample_rows(frame, size, self.model.spec.upsampling, (first, last))
            self.layout = whole.of_strip(strip)
            (restored,) = self.restore(
                part,
                (last - first, size[1]),
                on_window=on_window and _share_of(on_window, number, len(every)),
                scale=scale,
            )
            fewer = self.layout
            self.layout = dataclasses.replace(
                whole, windows=fewer.windows, autoencoder=fewer.autoencoder
            )
            top, bottom = (min(size[0], factor * row) - first for row in strip.rows)
            yield restored[:, :, top:bottom]

    def _plain_layout(self, size: tuple[int, int], frames: int) -> Layout:
        """For as much memory as is needed."""
        spec = self.model.spec
        shared = spec.network.shares and self.settings.is_guided
        return dataclasses.replace(plain_layout(spec, self.settings, size, frames), shared=shared)

    def _sample(
        self,
        z_lr: Tensor,
        attempts: Attempts,
        first_frame: int,
        on_window: WindowCallback | None,
        carried: Carried | None,
    ) -> Tensor:
        """Walk the noise levels from the model's start to the restored latents, `1 c t h w`."""
        velocity = WindowedVelocity(
            self.model,
            attempts,
            z_lr,
            guidance=(self.guidance_scale, self.settings.cfg_rescale),
            calls=self.settings.calls_per_window,
            timed=self.timed,
            on_window=on_window,
            first_frame=first_frame,
            carried=carried,
        )
        first_sigma = float(self.sigmas[0])
        if self.model.spec.start == "clean":
            # A sampler would scale latents as large as the frame up, and down again.
            time = self.schedule.network_time(first_sigma)
            return self.schedule.x0_from_v(z_lr, velocity(z_lr, torch.tensor([time])), time)
        by_run = self.model.spec.autoencoder.time_factor > 1
        noise = FrameNoise(self.settings.seed, first_frame, z_lr.shape, by_run=by_run)
        if self.model.spec.start == "noise":
            x = noise(0)
        else:
            x_t = logsnr_cosine_interp().add_noise(z_lr, noise(0), self.settings.noise_level - 1)
            x = scale_noised(x_t, first_sigma)
        denoise = ReusingDenoiser(
            v_denoiser(velocity, self.schedule),
            self.sigmas,
            bound=self.settings.cache,
            on_reuse=lambda sigma: velocity.leave_out(self.schedule.network_time(sigma)),
        )
        return self.solver.sample(denoise, x, self.sigmas, noise=lambda step: noise(step + 1))

    def _finish(
        self,
        runs: Iterator[Tensor],
        frames: Tensor,
        size: tuple[int, int],
        layout: Layout,
        scale: float,
    ) -> Iterator[Tensor]:
        """Crop decoded runs, match colours and blend."""
        left, _, top, _ = layout.padding
        done = 0
        while True:
            with self.timed("decode latents"):
                run = next(runs, None)
            # Runs that were completed have more pictures than frames.
            if run is None or done == len(frames):
                return
            with self.timed("finish"):
                source = frames[done : done + len(run)]
                pictures = run[: len(source), :, top : top + size[0], left : left + size[1]]
                done += len(pictures)
                finished = finished_look(
                    pictures,
                    source,
                    size,
                    scale,
                    look=self.look,
                    color_fix=self.settings.color_fix,
                    upsampling=self.model.spec.upsampling,
                )
            yield finished

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the wall time of the `with` block to `seconds`; compiling in it has its own name."""
        began, compiled = time.perf_counter(), compiling_s()
        try:
            yield
        finally:
            compiling = compiling_s() - compiled
            self._spent(name, time.perf_counter() - began - compiling)
            if compiling:
                self._spent("compile", compiling)

    def _spent(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


def _share_of(on_window: WindowCallback, number: int, count: int) -> WindowCallback:
    """What reports the share of all strips, from that of one of them."""
    return lambda share: on_window((number + share) / count)
