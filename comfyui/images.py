"""The node over a batch of images."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import starvsr
from starvsr.errors import MemoryLimitError, UsageError

from .models import DEFAULT, Model
from .running import Bar
from .widgets import (
    CATEGORY,
    MODEL,
    SETTINGS,
    SIZE,
    default_settings,
    look_options,
    sampling_options,
    window_options,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    Frame = npt.NDArray[np.uint16]

_WHITE = 65535

logger = logging.getLogger(__name__)


class UpscaleImages:
    """Restores the frames of a video that ComfyUI has as a batch, `b h w c` in [0, 1]."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Restores a batch of images as the frames of one video. The result is in memory as a whole: for long videos "
        "take starvsr Upscale Video."
    )
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The frames, in order; also with alpha."}),
                **SIZE,
            },
            "optional": {
                "model": (MODEL, {"tooltip": "Of starvsr Load Model; without: as auto there."}),
                **SETTINGS,
            },
        }

    def upscale(
        self,
        images: Tensor,
        scale: float,
        resolution: int,
        model: Model | None = None,
        **given: Any,
    ) -> tuple[Tensor]:
        """See `INPUT_TYPES`; one channel becomes three, of four the last is alpha.

        Raises ValueError for other images, StarvsrError, such as MemoryLimitError for a result that does not fit, and
        ComfyUI's InterruptProcessingException.
        """
        settings = {**default_settings(), **given}
        frames = Frames(images)
        factor = resolution / min(images.shape[1:3]) if resolution else scale
        _check_memory(images, factor)
        bar = Bar()
        model = model or DEFAULT
        restorer = dataclasses.replace(
            model.restorer(bar),
            sampling=model.with_prompts(sampling_options(settings)),
            look=look_options(settings, model.detail),
            windows=window_options(settings),
            seconds={},
            on_window=lambda share: bar.show(
                (frames.given + share * (frames.taken - frames.given)) / len(images)
            ),
        )
        _check_effect(restorer, model.name)
        cuts = starvsr.find_cuts(frames.small(bar)) if settings["scene_detect"] else ()
        stream = restorer.stream(frames.pictures(), scale=factor, cuts=cuts, length=len(images))
        return (frames.restored(stream, bar),)


class Frames:
    """The frames of a batch on their way to the network and back."""

    def __init__(self, images: Tensor) -> None:
        """images: `b h w c`. Raises ValueError."""
        from starvsr.restore.levels import check_clip

        if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or not len(images):
            raise ValueError(
                f"images must be b h w c with b > 0 and 1, 3 or 4 channels, got {tuple(images.shape)}"
            )
        colours = images.expand(-1, -1, -1, 3) if images.shape[-1] == 1 else images[..., :3]
        check_clip(colours.movedim(-1, 1))
        if images.shape[-1] == 4:
            # Alpha has the same values.
            check_clip(images[..., 3:].expand(-1, -1, -1, 3).movedim(-1, 1))
        self.images = images
        self.taken = self.given = 0
        """How many the network has got, and given back."""
        self._alphas: deque[Frame] = deque()

    def pictures(self) -> Iterator[Frame]:
        """As `Restorer.stream` takes them, `h w 3`, of the 65536 levels that a video's frames have too."""
        from starvsr.restore.transparency import split_alpha

        for number in range(len(self.images)):
            frame = self._levels(number)
            if frame.shape[2] == 4:
                (frame,), (alpha,) = split_alpha([frame])
                self._alphas.append(alpha)
            self.taken += 1
            yield frame

    def small(self, bar: Bar) -> Iterator[Any]:
        """As `find_cuts` takes them."""
        for number in range(len(self.images)):
            bar.show(0)
            yield (self._levels(number)[..., :3] >> 8).astype("uint8")

    def restored(self, pictures: Iterator[Frame], bar: Bar) -> Tensor:
        """All frames, `b H W c` float32 in [0, 1]."""
        import numpy as np
        import torch

        from starvsr.restore.transparency import join_alpha

        result: Tensor | None = None
        for frame in pictures:
            if self._alphas:
                frame = join_alpha(frame, self._alphas.popleft())
            if result is None:
                result = torch.empty((len(self.images), *frame.shape))
            result[self.given] = torch.from_numpy(frame / np.float32(_WHITE))
            self.given += 1
            bar.show(self.given / len(self.images))
        assert result is not None
        return result

    def _levels(self, number: int) -> Frame:
        """`h w c` of 0..65535, with three channels or four."""
        import numpy as np

        frame = self.images[number].float().cpu().numpy()
        levels = (frame.clip(0, 1) * np.float32(_WHITE)).round().astype(np.uint16)
        return np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels


def _check_effect(restorer: starvsr.Restorer, asked: str) -> None:
    """Of settings without effect: warn where the model was not named, else raise UsageError, as a job does."""
    settings = restorer.settings
    if settings.idle:
        logger.warning(settings.idle_text)
    if not settings.without_effect:
        return
    flags, name = " and ".join(settings.without_effect), restorer.model.spec.name
    message = f"{flags} would have no effect on the model {name}"
    if asked != "auto":
        raise UsageError(f"{message}; leave the default or take another model")
    logger.warning(message)


def _check_memory(images: Tensor, factor: float) -> None:
    """Raise MemoryLimitError where the result has no room, before any work."""
    import torch
    from comfy import model_management

    count, rows, columns, channels = images.shape
    needed = round(4 * count * rows * columns * max(3, channels) * factor * factor)
    free = model_management.get_free_memory(torch.device("cpu"))
    if needed > free:
        raise MemoryLimitError(
            f"the result takes {needed / 2**30:.1f} GiB of main memory, and {free / 2**30:.1f} GiB are free: upscale "
            "fewer images at once, or take starvsr Upscale Video, which works on files of any length"
        )
