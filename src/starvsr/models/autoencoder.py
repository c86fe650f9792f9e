"""Autoencoders: between pixels and the latent that the network works on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from starvsr.media.strict_json import first_words
from starvsr.models.attention import hide_xformers

logger = logging.getLogger(__name__)

# The published encoder works in this whatever the rest does: its activations overflow half precision.
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
        """Frames per latent frame behind the first."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""

    @property
    def module(self) -> nn.Module | None:
        """What holds its weights, if it has any."""

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


class TemporalVAE:
    """Stable Video Diffusion's autoencoder (Blattmann et al., 2023), as diffusers builds it.

    The encoder sees every frame alone; the decoder mixes the frames that it gets at once. Inputs may be on any
    device and of any dtype; they are brought to where the weights are.
    """

    time_factor = 1

    def __init__(self, module: Any, scaling_factor: float) -> None:
        """module: diffusers' `AutoencoderKLTemporalDecoder`."""
        self.module = module
        self.scaling_factor = scaling_factor
        self.factor: int = 2 ** (len(module.config.block_out_channels) - 1)
        self.latent_channels: int = module.config.latent_channels

    @classmethod
    def from_state(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        scaling_factor: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> TemporalVAE:
        """From diffusers' configuration and parameters. The decoder works in `dtype`, the encoder in float32.

        Raises ValueError where the parameters are not those of the configuration.
        """
        module = loaded_module(build_temporal_vae, config, state)
        module.to(device)
        for part in (module.encoder, module.quant_conv):
            part.to(_ENCODER_DTYPE)
        module.decoder.to(dtype)
        return cls(module, scaling_factor)

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b c t h/8 w/8`; see `Autoencoder`. Raises ValueError for sizes that do not divide."""
        check_frames(frames, self.factor)
        pictures = rearrange(frames, "b c t h w -> (b t) c h w")
        posterior = self.module.encode(pictures.to(self._device, _ENCODER_DTYPE)).latent_dist
        z: Tensor = posterior.mean
        if noise is not None:
            unit = rearrange(noise, "b c t h w -> (b t) c h w")
            z = z + posterior.std * unit.to(z)
        return rearrange(z * self.scaling_factor, "(b t) c h w -> b c t h w", b=len(frames))

    def decode(self, latent: Tensor) -> Tensor:
        """`b c t h w -> b 3 t 8h 8w`; the frames of a call are decoded together. Raises ValueError for other shapes.

        Where half precision overflows the decoder goes over to float32 for good, and says so.
        """
        check_latent(latent, self.latent_channels)
        z = rearrange(latent, "b c t h w -> (b t) c h w") / self.scaling_factor
        pictures = self._decode(z, latent.shape[2])
        if self._dtype != torch.float32 and not bool(pictures.isfinite().all()):
            logger.warning("the decoder overflows %s; it goes on in float32", self._dtype)
            self.module.decoder.to(torch.float32)
            pictures = self._decode(z, latent.shape[2])
        return rearrange(pictures, "(b t) c h w -> b c t h w", b=latent.shape[0])

    def _decode(self, z: Tensor, frames: int) -> Tensor:
        pictures: Tensor = self.module.decode(z.to(self._device, self._dtype), frames).sample
        return pictures.float()

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.module.decoder.conv_in.weight.device
        return device

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.module.decoder.conv_in.weight.dtype
        return dtype


class TinyVAE:
    """The small autoencoder without norms that is known as TAESD (Bohan, 2023), as diffusers builds it.

    Every frame is encoded and decoded alone, and a picture's parts do not depend on the rest of it.
    """

    time_factor = 1

    def __init__(self, module: Any, scaling_factor: float) -> None:
        """module: diffusers' `AutoencoderTiny`."""
        self.module = module
        self.scaling_factor = scaling_factor
        self.factor: int = 2 ** (len(module.config.encoder_block_out_channels) - 1)
        self.latent_channels: int = module.config.latent_channels

    @classmethod
    def from_state(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        scaling_factor: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> TinyVAE:
        """From diffusers' configuration and parameters; works in `dtype`.

        Raises ValueError where the parameters are not those of the configuration.
        """
        module = loaded_module(build_tiny_vae, config, state)
        # diffusers' own `to` warns of layers that it keeps in float32, though it has none.
        return cls(nn.Module.to(module, device, dtype), scaling_factor)

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b c t h/factor w/factor`; it encodes to no distribution. Raises ValueError as `Autoencoder`."""
        check_frames(frames, self.factor)
        pictures = rearrange(frames, "b c t h w -> (b t) c h w").to(self._parameter)
        z: Tensor = self.module.encode(pictures).latents.float() * self.scaling_factor
        return rearrange(z, "(b t) c h w -> b c t h w", b=len(frames))

    def decode(self, latent: Tensor) -> Tensor:
        """`b c t h w -> b 3 t h*factor w*factor`. Raises ValueError for other shapes."""
        check_latent(latent, self.latent_channels)
        z = rearrange(latent, "b c t h w -> (b t) c h w") / self.scaling_factor
        pictures: Tensor = self.module.decode(z.to(self._parameter)).sample.float()
        return rearrange(pictures, "(b t) c h w -> b c t h w", b=latent.shape[0])

    @property
    def _parameter(self) -> Tensor:
        parameter: Tensor = next(self.module.parameters())
        return parameter


def temporal_decoder_class() -> Any:
    """diffusers' class of Stable Video Diffusion's autoencoder."""
    hide_xformers()
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder


def build_temporal_vae(config: Mapping[str, Any]) -> Any:
    """Stable Video Diffusion's autoencoder of diffusers' configuration. Raises TypeError for an unknown setting."""
    return temporal_decoder_class()(**_settings(config))


def build_tiny_vae(config: Mapping[str, Any]) -> Any:
    """diffusers' `AutoencoderTiny` of its configuration. Raises TypeError for an unknown setting."""
    hide_xformers()
    from diffusers import AutoencoderTiny

    build: Any = AutoencoderTiny
    return build(**_settings(config))


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}


def loaded_module(
    build: Callable[[Mapping[str, Any]], Any],
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
) -> Any:
    """What `build` makes of a configuration, with the given parameters as they are, ready to run.

    Raises ValueError where they are not those of the configuration.
    """
    try:
        with torch.device("meta"):
            module = build(config)
        module.load_state_dict(dict(state), assign=True)
    # The library does not expect what a configuration may hold.
    except Exception as error:
        raise ValueError(
            f"the autoencoder does not fit its configuration: {first_words(error)}"
        ) from error
    return module.requires_grad_(False).eval()


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
