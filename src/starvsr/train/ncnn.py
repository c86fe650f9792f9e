"""Networks in ncnn's format, a `.param` file of layers and a `.bin` file of weights, read into torch.

Packages carry such files of networks that are published nowhere else as plain weights. Only what feed-forward
upscalers and the first layers of classifiers consist of is read: convolutions, activations, sums, concatenation,
maximum pooling, padding, interpolation and pixel shuffle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starvsr.errors import UsageError, WeightsError, did_you_mean
from starvsr.media.textfiles import read_text

_MAGIC = "7767517"
_FP16, _FP32 = 0x01306B47, (0, 0x0002C056)
_ARRAY = -23300
"""Keys of lists are this minus their number."""
# More than the strides of any network that reads pictures.
_TRIED_PX = 64
_MOST_BYTES = 1 << 30

Value = float | list[float]


@dataclass(frozen=True)
class _Layer:
    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[int, Value]

    def number(self, key: int, default: float = 0) -> float:
        value = self.settings.get(key, default)
        if isinstance(value, list):
            raise WeightsError(f"layer {self.name}: setting {key} is a list")
        return value

    def numbers(self, key: int) -> list[float]:
        value = self.settings.get(key, [])
        return value if isinstance(value, list) else [value]


class NcnnNetwork(nn.Module):
    """A network of one input, in float32."""

    def __init__(
        self, layers: list[_Layer], operations: list[nn.Module | None], named: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.layers, self.named = layers, named
        self.operations = nn.ModuleList(each or nn.Identity() for each in operations)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """`b c h w`, to its outputs, or those of the named layers, each of whatever size the network makes of it.

        They come in the order of the layers.
        """
        blobs: dict[str, Tensor] = {}
        features: list[Tensor] = []
        for layer, operation in zip(self.layers, self.operations, strict=True):
            # Every blob is read once: what is needed more often is split.
            inputs = [blobs.pop(name) for name in layer.inputs]
            if layer.kind == "Input":
                made = x
            elif layer.kind in _FUNCTIONS:
                made = _FUNCTIONS[layer.kind](layer, inputs)
            else:
                made = operation(*inputs)
            blobs.update(dict.fromkeys(layer.outputs, made))
            if layer.name in self.named:
                features.append(made)
        return tuple(features if self.named else blobs.values())


def read_ncnn(param: Path, *, outputs: int = 1, named: tuple[str, ...] = ()) -> NcnnNetwork:
    """The network of `NAME.param` and `NAME.bin` beside it, for inference; outputs: that it must have, or 0 for any.

    named: layers whose outputs are wanted instead; what comes after the last of them is left out.

    Raises UsageError where there is no layer of a name, WeightsError where a file cannot be read, has layers other than
    those of feed-forward upscalers, or the two do not fit together.
    """
    weights = param.with_suffix(".bin")
    try:
        layers = _layers(read_text(param), outputs, named)
        if weights.stat().st_size > _MOST_BYTES:
            raise ValueError(f"has more than {_MOST_BYTES >> 30} GiB of weights")
        file = _Weights(weights.read_bytes())
        network = NcnnNetwork(layers, [_operation(layer, file) for layer in layers], named)
        if not named and file.place != len(file.content):
            raise ValueError(f"does not fit {weights.name}, which has more weights")
    except OSError as error:
        raise WeightsError(f"{error.filename} cannot be read: {error.strerror}") from error
    except UsageError as error:
        raise UsageError(f"{param}: {error}") from error
    except (ValueError, WeightsError) as error:
        raise WeightsError(f"{param} is not a network that can be read: {error}") from error
    return network.eval().requires_grad_(False)


def of_rgb(network: NcnnNetwork, named: str) -> NcnnNetwork:
    """The network, if pictures of three channels pass through it; named: where it was given. Raises UsageError."""
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, _TRIED_PX, _TRIED_PX))
    except RuntimeError as error:
        raise UsageError(f"{named} does not take RGB pictures: {error}") from error
    return network


def _layers(text: str, outputs: int, named: tuple[str, ...]) -> list[_Layer]:
    """All of them, or those up to the last named one: others may be of any kind."""
    magic, _, *rest = text.split("\n", 2)
    if magic.strip() != _MAGIC or not rest:
        raise ValueError(f"it does not begin with {_MAGIC}")
    lines = [line.split() for line in rest[0].splitlines() if line.strip()]
    if named:
        places = {words[1]: place for place, words in enumerate(lines, 1) if len(words) > 1}
        if missing := [name for name in named if name not in places]:
            near = did_you_mean(missing[0], places).rstrip()
            raise UsageError(f"there is no layer {missing[0]!r}{near and f': {near}'}")
        lines, outputs = lines[: max(places[name] for name in named)], 0
    layers = [_layer(words) for words in lines]
    there: set[str] = set()
    for layer in layers:
        if missing := [name for name in layer.inputs if name not in there]:
            raise ValueError(f"layer {layer.name} reads {missing[0]}, which no layer leaves for it")
        there = there.difference(layer.inputs).union(layer.outputs)
    if len(there) != (outputs or len(there)) or [x.kind for x in layers].count("Input") != 1:
        raise ValueError(
            f"it must have one input and {outputs or 'any'} output{'s'[: outputs != 1]}"
        )
    return layers


def _layer(words: list[str]) -> _Layer:
    try:
        kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
        names = words[4 : 4 + inputs + outputs]
        pairs = (word.split("=", 1) for word in words[4 + inputs + outputs :])
        settings = dict(_setting(int(key), value) for key, value in pairs)
    except (ValueError, IndexError):
        raise ValueError(f"a line cannot be read: {' '.join(words)[:80]}") from None
    if kind not in (*_FUNCTIONS, *_MODULES, "Input"):
        allowed = ", ".join(sorted((*_FUNCTIONS, *_MODULES)))
        raise ValueError(f"layer {name} is a {kind}, and only these can be read: {allowed}")
    return _Layer(kind, name, tuple(names[:inputs]), tuple(names[inputs:]), settings)


def _setting(key: int, value: str) -> tuple[int, Value]:
    numbers = [float(each) for each in value.split(",")]
    # A list begins with its length.
    return (_ARRAY - key, numbers[1:]) if key <= _ARRAY else (key, numbers[0])


class _Weights:
    """The `.bin` file, read in the order of the layers."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def tagged(self, *shape: int) -> Tensor:
        """Numbers after a tag that says their type, padded to whole words."""
        tag = int(self._take(1, "<u4")[0])
        if tag != _FP16 and tag not in _FP32:
            raise ValueError(f"its weights have the type {tag:#x}: only fp16 and fp32 can be read")
        values = self._take(math.prod(shape), "<f2" if tag == _FP16 else "<f4")
        return torch.from_numpy(values.astype(np.float32)).reshape(shape)

    def plain(self, count: int) -> Tensor:
        """float32 numbers."""
        return torch.from_numpy(self._take(count, "<f4").copy())

    def _take(self, count: int, dtype: str) -> np.ndarray:
        size = count * np.dtype(dtype).itemsize
        if self.place + size > len(self.content):
            raise ValueError("its weights end too early")
        values = np.frombuffer(self.content, dtype, count, self.place)
        self.place += -(-size // 4) * 4
        return values


def _operation(layer: _Layer, weights: _Weights) -> nn.Module | None:
    make = _MODULES.get(layer.kind)
    return None if make is None else make(layer, weights)


def _convolution(layer: _Layer, weights: _Weights) -> nn.Module:
    outputs, rows, columns = (int(layer.number(key, layer.number(1))) for key in (0, 11, 1))
    values = int(layer.number(6))
    inputs = values // max(1, outputs * rows * columns)
    if min(outputs, rows, columns, inputs) < 1 or inputs * outputs * rows * columns != values:
        raise ValueError(f"layer {layer.name} has {values} weights, which fit no number of inputs")
    conv = nn.Conv2d(
        inputs,
        outputs,
        (rows, columns),
        stride=int(layer.number(3, 1)),
        padding=int(layer.number(4)),
        dilation=int(layer.number(2, 1)),
        bias=bool(layer.number(5)),
    )
    conv.weight.data = weights.tagged(outputs, inputs, rows, columns)
    if conv.bias is not None:
        conv.bias.data = weights.plain(outputs)
    kind = int(layer.number(9))
    if kind not in (0, 1, 2):
        raise ValueError(f"layer {layer.name} has the activation {kind}: only ReLUs can be read")
    slope = (layer.numbers(10) or [0.0])[0] if kind == 2 else 0.0
    return nn.Sequential(conv, nn.LeakyReLU(slope)) if kind else conv


def _prelu(layer: _Layer, weights: _Weights) -> nn.Module:
    activation = nn.PReLU(int(layer.number(0)))
    activation.weight.data = weights.plain(activation.num_parameters)
    return activation


def _sum(layer: _Layer, inputs: list[Tensor]) -> Tensor:
    """Of `Eltwise`, whose operation 1 is a sum, with coefficients if there are any."""
    if layer.number(0) != 1:
        raise WeightsError(f"layer {layer.name} is not a sum")
    factors = layer.numbers(1) or [1.0] * len(inputs)
    return torch.stack([x * f for x, f in zip(inputs, factors, strict=True)]).sum(0)


def _added(layer: _Layer, inputs: list[Tensor]) -> Tensor:
    if layer.number(0) != 0 or len(inputs) != 2:
        raise WeightsError(f"layer {layer.name} is not a sum")
    return inputs[0] + inputs[1]


def _interpolated(layer: _Layer, inputs: list[Tensor]) -> Tensor:
    modes = {1: "nearest", 2: "bilinear"}
    mode = modes.get(int(layer.number(0)))
    if mode is None:
        raise WeightsError(f"layer {layer.name} interpolates neither nearest nor bilinearly")
    options = {} if mode == "nearest" else {"align_corners": False}
    factors = (layer.number(1, 1), layer.number(2, 1))
    return F.interpolate(inputs[0], scale_factor=factors, mode=mode, **options)


def _padded(layer: _Layer, inputs: list[Tensor]) -> Tensor:
    if layer.number(4) != 0 or layer.number(6) != 0:
        raise WeightsError(f"layer {layer.name} does not pad with a constant")
    top, bottom, left, right = (int(layer.number(key)) for key in range(4))
    # Before a maximum it is float32's least, which half precision does not have.
    value = max(layer.number(5), torch.finfo(inputs[0].dtype).min)
    return F.pad(inputs[0], (left, right, top, bottom), value=value)


def _pooled(layer: _Layer, inputs: list[Tensor]) -> Tensor:
    """The maximum within the picture; only whole windows are taken, as in torch."""
    if layer.number(0) != 0 or layer.number(4) != 0 or layer.number(5) not in (0, 1):
        raise WeightsError(f"layer {layer.name} is no maximum of windows")
    side, stride, padding = (
        int(layer.number(key, least)) for key, least in ((1, 1), (2, 1), (3, 0))
    )
    return F.max_pool2d(inputs[0], side, stride, padding)


_MODULES: dict[str, Callable[[_Layer, _Weights], nn.Module]] = {
    "Convolution": _convolution,
    "PReLU": _prelu,
    "ReLU": lambda layer, _: nn.LeakyReLU(layer.number(0)),
    "PixelShuffle": lambda layer, _: nn.PixelShuffle(int(layer.number(0))),
}
_FUNCTIONS: dict[str, Callable[[_Layer, list[Tensor]], Tensor]] = {
    "Split": lambda _, inputs: inputs[0],
    "Concat": lambda _, inputs: torch.cat(inputs, dim=1),
    "Eltwise": _sum,
    "BinaryOp": _added,
    "Interp": _interpolated,
    "Padding": _padded,
    "Pooling": _pooled,
}
