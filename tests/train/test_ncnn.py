"""ncnn's files: they compute what the same layers of torch do, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.errors import UsageError, WeightsError
from starvsr.train.ncnn import read_ncnn
from tests.train.ncnn_files import plain, tagged, write_enlarger, write_ncnn


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_network_of_every_layer(tmp_path: Path) -> None:
    first, bias, second, slopes = (
        drawn(0, 8, 3, 3, 3),
        drawn(1, 8),
        drawn(2, 12, 11, 1, 1),
        drawn(3, 12),
    )
    # An odd number of halves is padded to whole words.
    odd = drawn(4, 3, 3, 1, 1)
    path = write_ncnn(
        tmp_path / "net.param",
        [
            "Input            in       0 1 data",
            "Split            split    1 3 data a b c",
            "Convolution      conv     1 1 a wide 0=8 1=3 4=1 5=1 6=216 9=2 -23310=1,2.000000e-01",
            "Concat           join     2 1 wide b all",
            "Convolution      conv2    1 1 all deep 0=12 1=1 6=132",
            "PReLU            act      1 1 deep active 0=12",
            "PixelShuffle     shuffle  1 1 active shuffled 0=2",
            "Convolution      conv3    1 1 c tinted 0=3 1=1 6=9 9=1",
            "Interp           up       1 1 tinted up 0=2 1=2.0 2=2.0",
            "Split            split2   1 2 up up1 up2",
            "Eltwise          sum      2 1 shuffled up1 mixed 0=1 -23301=2,0.5,2.0",
            "BinaryOp         add      2 1 mixed up2 added 0=0",
            "ReLU             relu     1 1 added out",
        ],
        tagged(first) + plain(bias) + tagged(second) + plain(slopes) + tagged(odd, half=True),
    )
    x = drawn(5, 2, 3, 5, 6)
    wide = F.leaky_relu(F.conv2d(x, first, bias, padding=1), 0.2)
    deep = F.prelu(F.conv2d(torch.cat([wide, x], 1), second), slopes)
    tinted = F.relu(F.conv2d(x, odd.half().float()))
    up = F.interpolate(tinted, scale_factor=2, mode="bilinear", align_corners=False)
    expected = F.relu(0.5 * F.pixel_shuffle(deep, 2) + 2 * up + up)
    torch.testing.assert_close(read_ncnn(path)(x)[0], expected)


def classifier(tmp_path: Path) -> tuple[Path, Tensor]:
    """The way a classifier begins, with two outputs, and its first layer's weights."""
    weights = drawn(0, 4, 3, 3, 3)
    path = write_ncnn(
        tmp_path / "net.param",
        [
            "Input        in    0 1 data",
            "Convolution  conv  1 1 data wide 0=4 1=3 3=2 4=1 6=108 9=1",
            "Split        split 1 2 wide out0 rest",
            "Padding      pad   1 1 rest padded 0=0 1=1 2=0 3=1 4=0 5=-3.40282347e38 6=0",
            "Pooling      pool  1 1 padded out1 0=0 1=3 11=3 2=2 3=0 5=0",
        ],
        tagged(weights),
    )
    return path, weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_of_several_outputs(tmp_path: Path, dtype: torch.dtype) -> None:
    path, weights = classifier(tmp_path)
    x = drawn(1, 2, 3, 12, 16).to(dtype)
    found = read_ncnn(path, outputs=0).to(dtype)(x)
    first = F.relu(F.conv2d(x, weights.to(dtype), stride=2, padding=1))
    pooled = F.max_pool2d(F.pad(first, (0, 1, 0, 1)), 3, 2)
    assert [each.shape for each in found] == [(2, 4, 6, 8), (2, 4, 3, 4)]
    torch.testing.assert_close(found, (first, pooled))
    with pytest.raises(WeightsError, match="one input and 1 output"):
        read_ncnn(path)


def test_named_layers_of_the_beginning_of_a_network(tmp_path: Path) -> None:
    path, weights = classifier(tmp_path)
    with path.open("a") as file:
        file.write("Convolution late 1 1 out1 far 0=8 1=3 6=288\n")
        file.write("InnerProduct full 1 1 far classes 0=10 6=80\n")
    with path.with_suffix(".bin").open("ab") as file:
        file.write(tagged(drawn(1, 8, 4, 3, 3)))
    x = drawn(2, 1, 3, 12, 16)
    (wide,) = read_ncnn(path, outputs=0, named=("conv",))(x)
    torch.testing.assert_close(wide, F.relu(F.conv2d(x, weights, stride=2, padding=1)))
    whole = read_ncnn(path, outputs=0, named=("late", "conv"))
    torch.testing.assert_close(whole(x)[0], wide)
    assert [each.shape[1] for each in whole(x)] == [4, 8]
    names = [layer.name for layer in read_ncnn(path, outputs=0, named=("pad",)).layers]
    assert names == ["in", "conv", "split", "pad"]
    with pytest.raises(UsageError, match="no layer 'con': did you mean conv"):
        read_ncnn(path, outputs=0, named=("conv", "con"))


@pytest.mark.parametrize(("mode", "name"), [(1, "nearest"), (2, "bilinear")])
def test_interpolation(tmp_path: Path, mode: int, name: str) -> None:
    x = drawn(0, 1, 3, 4, 5)
    (enlarged,) = read_ncnn(write_enlarger(tmp_path / "up.param", 3, mode))(x)
    torch.testing.assert_close(enlarged, F.interpolate(x, scale_factor=3, mode=name))


CONV = "Convolution conv 1 1 data out 0=1 1=1 6=3"
INPUT = "Input in 0 1 data"


@pytest.mark.parametrize(
    ("lines", "weights", "named"),
    [
        ([INPUT, "LSTM odd 1 1 data out"], b"", "layer odd is a LSTM"),
        ([INPUT, "Convolution conv 1 1 gone out 0=1 1=1 6=3"], b"", "reads gone"),
        ([INPUT, "Split s 1 2 data a b"], b"", "one input and 1 output"),
        ([INPUT, "Split s x 2 data a b"], b"", "a line cannot be read"),
        ([INPUT, CONV], b"\0" * 8, "end too early"),
        ([INPUT, CONV], b"\0" * 20, "more weights"),
        ([INPUT, CONV], b"\1\2\3\4" + b"\0" * 12, "only fp16 and fp32"),
        ([INPUT, "Convolution conv 1 1 data out 0=2 1=1 6=3"], b"", "fit no number of inputs"),
        ([INPUT, CONV + " 9=4"], b"\0" * 16, "the activation 4"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, lines: list[str], weights: bytes, named: str
) -> None:
    path = write_ncnn(tmp_path / "net.param", lines, weights)
    with pytest.raises(WeightsError, match=named) as caught:
        read_ncnn(path)
    assert str(path) in str(caught.value)


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"net\.param"):
        read_ncnn(tmp_path / "net.param")
    path = tmp_path / "net.param"
    path.write_text("hello\n")
    with pytest.raises(WeightsError, match=r"net\.bin cannot be read|begin with 7767517"):
        read_ncnn(path)
    path.write_text("7767517\n1 1\n" + INPUT)
    with pytest.raises(WeightsError, match=r"net\.bin cannot be read"):
        read_ncnn(path)


@pytest.mark.parametrize(
    "line",
    [
        "Padding e 1 1 a out 0=1 4=1",
        "Pooling e 1 1 a out 0=1 1=2",
        "Pooling e 1 1 a out 0=0 4=1",
        "Eltwise e 2 1 a b out 0=2",
        "BinaryOp e 2 1 a b out 0=2",
        "Interp e 1 1 a out 0=3 1=2.0",
    ],
)
def test_other_operations_of_a_known_layer_are_refused(tmp_path: Path, line: str) -> None:
    names = "a b" if "a b" in line else "a"
    split = f"Split s 1 {len(names.split())} data {names}"
    network = read_ncnn(write_ncnn(tmp_path / "net.param", [INPUT, split, line]))
    with pytest.raises(WeightsError, match="layer e"):
        network(drawn(0, 1, 3, 4, 4))
