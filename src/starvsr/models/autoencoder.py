"""Autoencoders: between pixels and the latent that the network works on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from starvsr.models.attention import hide_xformers
from starvsr.models.library import loaded_module

logger = logging.getLogger(__name__)

# The published encoder always works in float32: its activations overflow half precision.
_ENCODER_DTYPE = torch.float32


class Autoencoder(Protocol):
    """What `restore` asks of an autoencoder. Frames are `b c t h w` RGB in [-1, 1], latents `b c t' h w`.

    t' is t, or where the time factor f is above 1, k + 1 for t = f k + 1.
    """

    @property
    def factor(self) -> int:
        """Pixels per latent element, each way."""

    @property
    def time_factor(self) -> int:
        """Frames per latent frame after the first."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""

    @property
    def module(self) -> nn.Module | None:
        """The module with its weights, if it has any."""

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b latent_channels t' h/factor w/factor`, float32; h and w must be multiples of `factor`.

        noise: unit normal, of the latent's shape, by which an autoencoder that encodes to a distribution draws
        from it; None takes its mean.
        """

    def decode(self, latent: Tensor) -> Tensor:
        """`b latent_channels t' h w -> b 3 t h*factor w*factor`, float32, not clamped."""


class PixelUnshuffle:
    """Lossless: every `factor` x `factor` square of pixels becomes one latent element.

    Channels run colour, row, column, as in `torch.nn.functional.pixel_unshuffle`.
    """

    module = None
    time_factor = 1

    def __init__(self, factor: int = 4) -> None:
        if factor < 1:
            raise ValueError(f"factor {factor} must be at least 1")
        self.factor = factor
        self.latent_channels = 3 * factor**2

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b 3*factor^2 t h/factor w/factor`; `ValueError` where the sizes do not divide."""
        check_frames(frames, self.factor)
        latent = F.pixel_unshuffle(rearrange(frames, "b c t h w -> (b t) c h w"), self.factor)
        return rearrange(latent, "(b t) c h w -> b c t h w", b=len(frames))

    def decode(self, latent: Tensor) -> Tensor:
        """`b 3*factor^2 t h w -> b 3 t h*factor w*factor`, exactly what was encoded."""
        check_latent(latent, self.latent_channels)
        # Half the time of `pixel_shuffle`.
        frames = rearrange(
            latent, "b (c p q) t h w -> b t c (h p) (w q)", p=self.factor, q=self.factor
        )
        return frames.transpose(1, 2)


class DiffusersVAE:
    """Base of autoencoders that diffusers builds.

    Inputs may be on any device and of any dtype; they are moved to the weights' device and dtype.
    """

    library_class: ClassVar[str]
    """The name of diffusers' class."""
    time_factor = 1

    def __init__(self, module: Any, scaling_factor: float) -> None:
        """module: as `build` gives it."""
        self.module = module
        self.scaling_factor = scaling_factor
        self.factor: int = 2 ** (len(module.config.block_out_channels) - 1)
        self.latent_channels: int = module.config.latent_channels

    @classmethod
    def build(cls, config: Mapping[str, Any]) -> Any:
        """diffusers' module of its configuration. Raises TypeError for an unknown setting."""
        hide_xformers()
        import diffusers

        settings = {name: value for name, value in config.items() if not name.startswith("_")}
        return getattr(diffusers, cls.library_class)(**settings)

    @classmethod
    def from_state(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        scaling_factor: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Self:
        """From diffusers' configuration and parameters; works in `dtype`.

        Raises ValueError if the parameters do not match the configuration.
        """
        module = loaded_module("autoencoder", lambda: cls.build(config), state)
        # diffusers' own `to` warns of layers that it keeps in float32, though it has none.
        vae = cls(nn.Module.to(module, device), scaling_factor)
        vae._use(dtype)
        return vae

    def _use(self, dtype: torch.dtype) -> None:
        # Part by part, since diffusers warns of any cast of the whole.
        for part in self.module.children():
            part.to(dtype)

    @property
    def _weight(self) -> Tensor:
        return next(self.module.decoder.parameters())

    def _finite(self, call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`call(x)` as float32. If half precision overflows, switches to float32 permanently."""
        result = call(x.to(self._weight)).float()
        if self._weight.dtype != torch.float32 and not bool(result.isfinite().all()):
            logger.warning(
                "the autoencoder overflows %s; it continues in float32", self._weight.dtype
            )
            self._use(torch.float32)
            result = call(x.to(self._weight))
        return result


class TemporalVAE(DiffusersVAE):
    """Stable Video Diffusion's autoencoder (Blattmann et al., 2023).

    The encoder sees every frame alone, in float32; the decoder mixes the frames of one call.
    """

    library_class = "AutoencoderKLTemporalDecoder"

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b c t h/8 w/8`; see `Autoencoder`. Raises ValueError for sizes that do not divide."""
        check_frames(frames, self.factor)
        pictures = rearrange(frames, "b c t h w -> (b t) c h w")
        posterior = self.module.encode(pictures.to(self._weight.device, _ENCODER_DTYPE)).latent_dist
        z: Tensor = posterior.mean
        if noise is not None:
            unit = rearrange(noise, "b c t h w -> (b t) c h w")
            z = z + posterior.std * unit.to(z)
        return rearrange(z * self.scaling_factor, "(b t) c h w -> b c t h w", b=len(frames))

    def decode(self, latent: Tensor) -> Tensor:
        """`b c t h w -> b 3 t 8h 8w`; the frames of a call are decoded together. Raises ValueError for other shapes.

        If half precision overflows, the decoder switches to float32 permanently and warns.
        """
        check_latent(latent, self.latent_channels)
        z = rearrange(latent, "b c t h w -> (b t) c h w") / self.scaling_factor
        pictures = self._finite(lambda part: self.module.decode(part, latent.shape[2]).sample, z)
        return rearrange(pictures, "(b t) c h w -> b c t h w", b=latent.shape[0])

    def _use(self, dtype: torch.dtype) -> None:
        for part in (self.module.encoder, self.module.quant_conv):
            part.to(_ENCODER_DTYPE)
        self.module.decoder.to(dtype)


class LinearAutoencoder:
    """One convolution each way, as wide as its stride, so that every block of pixels is coded by itself.

    Works in float32, on the device of its weights.
    """

    time_factor = 1

    def __init__(self, module: Any, scaling_factor: float) -> None:
        """module: as `build` gives it."""
        self.module = module
        self.scaling_factor = scaling_factor
        self.latent_channels, _, self.factor, _ = module.encoder.weight.shape

    @classmethod
    def build(cls, config: Mapping[str, Any]) -> Any:
        """The module of a configuration, `factor` and `latent_channels`. Raises TypeError for an unknown setting."""
        return _Blocks(**config)

    @classmethod
    def from_state(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        scaling_factor: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Self:
        """From `build`'s configuration and parameters. Raises ValueError if the parameters do not match it."""
        module = loaded_module("autoencoder", lambda: cls.build(config), state)
        return cls(module.to(device, torch.float32), scaling_factor)

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b c t h/factor w/factor`; it encodes to no distribution. Raises ValueError as `Autoencoder`."""
        check_frames(frames, self.factor)
        pictures = rearrange(frames, "b c t h w -> (b t) c h w").to(self._weight)
        z: Tensor = self.module.encoder(pictures) * self.scaling_factor
        return rearrange(z, "(b t) c h w -> b c t h w", b=len(frames))

    def decode(self, latent: Tensor) -> Tensor:
        """`b c t h w -> b 3 t h*factor w*factor`. Raises ValueError for other shapes."""
        check_latent(latent, self.latent_channels)
        z = rearrange(latent, "b c t h w -> (b t) c h w") / self.scaling_factor
        pictures: Tensor = self.module.decoder(z.to(self._weight))
        return rearrange(pictures, "(b t) c h w -> b c t h w", b=latent.shape[0])

    @property
    def _weight(self) -> Tensor:
        return cast(Tensor, self.module.encoder.weight)


class _Blocks(nn.Module):
    def __init__(self, factor: int, latent_channels: int) -> None:
        super().__init__()
        for name, value in (("factor", factor), ("latent_channels", latent_channels)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} {value!r} must be a whole number from 1")
        self.encoder = nn.Conv2d(3, latent_channels, factor, stride=factor)
        self.decoder = nn.ConvTranspose2d(latent_channels, 3, factor, stride=factor)


def check_frames(frames: Tensor, factor: int) -> None:
    """Raise ValueError unless they are `b 3 t h w` and h and w multiples of `factor`."""
    if frames.ndim != 5 or frames.shape[1] != 3:
        raise ValueError(f"frames must be b 3 t h w, and are {tuple(frames.shape)}")
    h, w = frames.shape[-2:]
    if h % factor or w % factor:
        raise ValueError(f"frames of {h}x{w} (rows x columns) must be multiples of {factor}")


def check_latent(latent: Tensor, channels: int) -> None:
    """Raise ValueError unless it is `b channels t h w`."""
    if latent.ndim != 5 or latent.shape[1] != channels:
        raise ValueError(f"a latent must be b {channels} t h w, and is {tuple(latent.shape)}")
