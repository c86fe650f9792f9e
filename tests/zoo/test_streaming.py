"""Weights stream: making and loading a file takes no more memory than it has to. Read from Linux's /proc."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from starvsr.models.unet import StarUNet
from starvsr.specs import STAR_LIGHT
from starvsr.types import AutoencoderSpec, ModelSpec
from starvsr.zoo.load import save_model
from starvsr.zoo.spec_json import spec_to_json
from tests.zoo.published import published_network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc"),
]

MEASURE = """
import dataclasses, sys, threading
from pathlib import Path
from starvsr.options import WeightsOptions
from starvsr.specs import COMPONENTS, SPECS
from starvsr.zoo.spec_json import spec_from_json
from starvsr.zoo.components import make_component
from starvsr.zoo.load import load_model

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) << 10

def peak_anonymous(call):
    load_model("nano", device="cpu")
    first = most = status("RssAnon")
    ended = threading.Event()
    def watch():
        nonlocal most
        while not ended.wait(0.001):
            most = max(most, status("RssAnon"))
    watcher = threading.Thread(target=watch)
    watcher.start()
    result = call()
    ended.set()
    watcher.join()
    return max(most, status("RssAnon")) - first
"""

CONVERT = """
SPECS["star-light"] = spec_from_json(Path(sys.argv[1]).read_text())
source, target = Path(sys.argv[2]), Path(sys.argv[3])
component = COMPONENTS["star-light"]
before = status("VmHWM")
make_component(component, {component.sources[0].path: source}, target, source_sha256="")
print((status("VmHWM") - before) / source.stat().st_size)
"""

LOAD = """
import os
for way in sys.argv[2:]:
    precision, offload = way.split("-")
    # Importing takes far longer than loading.
    if os.fork() == 0:
        print(way, peak_anonymous(lambda: load_model(sys.argv[1], precision=precision, offload=offload, device="cpu")))
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0
"""


def measured(code: str, *arguments: object) -> str:
    """What a piece of code prints in a process of its own."""
    command = [sys.executable, "-c", MEASURE + code, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def spec_of(latent_channels: int) -> ModelSpec:
    """star-light's network at a fifth of its width, without files beside it."""
    network = dataclasses.replace(
        STAR_LIGHT.network, width=64, head_width=32, latent_channels=latent_channels
    )
    autoencoder = AutoencoderSpec(kind="pixel_unshuffle", factor=2)
    return dataclasses.replace(STAR_LIGHT, network=network, autoencoder=autoencoder, text=None)


def test_conversion(tmp_path: Path) -> None:
    spec, described = spec_of(4), tmp_path / "spec.json"
    source, target = tmp_path / "net.pt", tmp_path / "made.safetensors"
    described.write_text(spec_to_json(spec))
    torch.save({"state_dict": published_network(spec)}, source)
    assert source.stat().st_size > 250_000_000
    # Every page of the mapped file counts once; a copy of it would count again.
    assert 0.5 < float(measured(CONVERT, described, source, target)) < 1.2
    assert target.stat().st_size == pytest.approx(source.stat().st_size, rel=0.01)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec, path = spec_of(12), tmp_path_factory.mktemp("model") / "model.safetensors"
    with torch.device("meta"):
        shapes = StarUNet(spec.network).state_dict()
    save_model(path, spec, {name: torch.ones(like.shape) for name, like in shapes.items()})
    return path


WAYS = {
    # Least and most of the size of the file, which is in single precision. Only kernels are copied, into the order of
    # their use; what other work has freed is used first.
    "fp32-none": (0.3, 0.8),
    "fp16-none": (0.35, 0.55),
    "bf16-none": (0.35, 0.55),
    "fp32-model": (0.0, 0.05),
    "fp32-block": (0.0, 0.05),
    "fp16-block": (0.0, 0.05),
}


@pytest.fixture(scope="module")
def peaks(model_file: Path) -> dict[str, str]:
    """What loading takes by each of the ways, in bytes."""
    lines = measured(LOAD, model_file, *WAYS).splitlines()
    return dict(line.split() for line in lines)


@pytest.mark.parametrize("way", WAYS)
def test_loading(model_file: Path, peaks: dict[str, str], way: str) -> None:
    least, most = WAYS[way]
    assert least <= int(peaks[way]) / model_file.stat().st_size <= most
