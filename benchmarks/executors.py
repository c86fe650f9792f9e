"""Other runtimes than torch for `nano`: CPU seconds per frame and deviation of results, on one thread.

taskset -c 0 python benchmarks/executors.py examples/butterfly.mp4

Needs openvino, onnx, onnxruntime, onnxscript and torchao, which starvsr itself does not. Frames of 1920x1080 are made
of the clip's at 480x270 and follow on one another with what each leaves for the next; all take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import torch
import torch.nn.functional as F
from torch import Tensor, nn

try:
    import onnxruntime
    import openvino
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
except ModuleNotFoundError as error:
    sys.exit(f"{__doc__}\nerror: {error.name} is not installed")

from starvsr.models.recurrent import RecurrentNet, State
from starvsr.zoo.load import load_model

WIDTH, HEIGHT, FACTOR = 480, 270, 4
INPUTS = ("z", "features", "remembered")

Step = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
"""A frame's latent and the previous state to its velocity and the next state."""


class Frame(nn.Module):
    """`RecurrentNet` for one frame, tensors in and out."""

    def __init__(self, net: RecurrentNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, features: Tensor, remembered: Tensor) -> tuple[Tensor, ...]:
        """All `b c h w`."""
        z = z.contiguous(memory_format=torch.channels_last)
        v, state = self.net._frame(z, State(features, remembered), [])
        return v, state.features, state.remembered


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Some frames and their states, for the ranges of quantised values."""

    def __init__(self, examples: list[tuple[Tensor, ...]]) -> None:
        self.examples = iter(examples)

    def get_next(self) -> dict[str, Any] | None:
        """The next one; None after the last."""
        example = next(self.examples, None)
        return None if example is None else named(example)


def named(tensors: tuple[Tensor, ...]) -> dict[str, Any]:
    """As arrays in channels-first order, by the names of inputs."""
    return {name: tensor.contiguous().numpy() for name, tensor in zip(INPUTS, tensors, strict=True)}


def nano() -> RecurrentNet:
    """The embedded network."""
    network = load_model("nano", device="cpu", precision="fp32").network
    assert isinstance(network, RecurrentNet)
    return network


def latents(clip: Path, count: int) -> list[Tensor]:
    """Of the first frames."""
    made: list[Tensor] = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT)
            x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
            large = F.interpolate(x, scale_factor=FACTOR, mode="bicubic")
            made.append(F.pixel_unshuffle(large, FACTOR))
            if len(made) == count:
                break
    return made


def by_torch(net: RecurrentNet, dtype: torch.dtype = torch.float32) -> Step:
    """By torch in a precision."""
    frame = Frame(net.to(dtype))

    def step(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return tuple(frame(*(tensor.to(dtype) for tensor in tensors)))

    return step


def by_torchao() -> Step:
    """By torch with both linear layers in int8, activations quantised as they come."""
    net = nano()
    for name in ("recall", "up"):
        ours = getattr(net, name)
        plain = nn.Linear(ours.in_features, ours.out_features, bias=ours.bias is not None)
        plain.load_state_dict(ours.state_dict())
        setattr(net, name, plain)
    quantize_(net, Int8DynamicActivationInt8WeightConfig())
    return by_torch(net)


def by_onnxruntime(model: Path) -> Step:
    """By ONNX Runtime's own kernels."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def step(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(out) for out in session.run(None, named(tensors)))

    return step


def by_openvino(model: Path, precision: str) -> Step:
    """By OpenVINO with a hint of precision (f32 or bf16)."""
    compiled = openvino.Core().compile_model(
        model,
        "CPU",
        {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision},
    )
    request = compiled.create_infer_request()

    def step(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        results = request.infer(list(named(tensors).values()), share_inputs=True)
        return tuple(torch.from_numpy(results[out]) for out in compiled.outputs)

    return step


def exported(examples: list[tuple[Tensor, ...]], folder: Path) -> tuple[Path, Path]:
    """The network as ONNX: in float32, and with convolutions and products in int8."""
    whole, int8 = folder / "f32.onnx", folder / "int8.onnx"
    with torch.no_grad():
        torch.onnx.export(
            Frame(nano()).eval(),
            tuple(tensor.contiguous() for tensor in examples[0]),
            whole,
            input_names=INPUTS,
            opset_version=20,
            external_data=False,
            dynamo=True,
        )
    quantize_static(
        whole,
        int8,
        Calibration(examples),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul"],
        per_channel=True,
    )
    return whole, int8


def chained(step: Step, frames: list[Tensor], state: tuple[Tensor, ...]) -> list[Tensor]:
    """Velocities of consecutive frames."""
    velocities = []
    for z in frames:
        v, *left = step((z, *state))
        velocities.append(v.float().clone())
        state = tuple(part.clone() for part in left)
    return velocities


def seconds(step: Step, tensors: tuple[Tensor, ...]) -> float:
    """CPU time of one frame: on a busy machine the only meaningful time."""
    began = time.process_time()
    step(tensors)
    return time.process_time() - began


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--pairs", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(1)
    first, *frames = latents(options.clip, 5)
    plain = by_torch(nano())
    nothing = torch.zeros(1, 32, HEIGHT, WIDTH), torch.zeros(1, 48, HEIGHT, WIDTH)
    _, *left = plain((first, *nothing))
    state = tuple(left)
    examples, before = [], state
    for z in frames:
        examples.append((z, *before))
        _, *left = plain(examples[-1])
        before = tuple(left)
    with tempfile.TemporaryDirectory() as folder:
        whole, int8 = exported(examples, Path(folder))
        steps = {
            "torch": plain,
            "onnxruntime": by_onnxruntime(whole),
            "openvino": by_openvino(whole, "f32"),
            "torch, bf16": by_torch(nano(), torch.bfloat16),
            "openvino, bf16": by_openvino(whole, "bf16"),
            "torch, linear layers in int8 by torchao": by_torchao(),
            "onnxruntime, int8": by_onnxruntime(int8),
            "openvino, int8": by_openvino(int8, "f32"),
        }
        wanted = chained(plain, frames, state)
        off = {
            name: max(
                (got - want).abs().max().item()
                for got, want in zip(chained(step, frames, state), wanted, strict=True)
            )
            for name, step in steps.items()
        }
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(options.pairs):
            for name, step in steps.items():
                # Each in its own memory format, as the previous frame would have left it.
                order = torch.channels_last if name.startswith("torch") else torch.contiguous_format
                example = examples[turn % len(examples)]
                tensors = tuple(part.contiguous(memory_format=order) for part in example)
                taken[name].append(seconds(step, tensors))
    for name, times in taken.items():
        ratio = statistics.median(a / b for a, b in zip(taken["torch"], times, strict=True))
        print(
            f"{name}: {statistics.median(times):.3f} s a frame, torch takes {ratio:.2f} of it, "
            f"off by {off[name]:.1e}"
        )


if __name__ == "__main__":
    main()
