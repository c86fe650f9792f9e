"""Time and memory to convert a full-size network's published checkpoint, load it, and run it.

    python benchmarks/load.py [--folder DIR] [--width N] [--dtype fp16] [--bare] [--golden full_tiny full]
                              [--precision fp32 ...] [--offload none ...]

Makes a seeded checkpoint in the published layout (8.2 GB at the published width 320, about a minute), converts it as
`--model light_deg.pt` does, and loads it in each precision with each kind of offload, each in its own process; with
`--golden` every loaded network is run on those recorded cases, and its distance to the recorded output and to the
result without offload is printed. Without a precision nothing is loaded. Files are deleted at the end. Anonymous memory
is what the system cannot drop; pages of mapped files are not part of it. Memory is read from Linux's /proc.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from starvsr.models.autoencoder import TemporalVAE
from starvsr.models.device import device_info
from starvsr.models.unet import StarUNet
from starvsr.options import Precision, WeightsOptions
from starvsr.specs import SPECS, STAR_LIGHT
from starvsr.types import ModelSpec
from starvsr.zoo import converted
from starvsr.zoo.choose import choose_model
from starvsr.zoo.components import convert_component
from starvsr.zoo.convert import to_published
from starvsr.zoo.load import load_model

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.golden.seeded_init import seeded_input, seeded_parameter  # noqa: E402
from tests.zoo.published import SMALL_STAR, install_small  # noqa: E402

NAME = "star-light"
CASES = {"full_tiny": ((1, 4, 2, 10, 8), 7), "full": ((1, 4, 4, 26, 32), 77)}
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


def status_bytes(name: str) -> int:
    """An entry of /proc/self/status, such as `RssAnon` or `VmHWM`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


class PeakAnonymous:
    """Most anonymous memory of this process within, above what it had at the beginning; `bytes` afterwards."""

    def __enter__(self) -> PeakAnonymous:
        self.first = self.most = status_bytes("RssAnon")
        self.ended = threading.Event()
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def _watch(self) -> None:
        while not self.ended.wait(0.005):
            self.most = max(self.most, status_bytes("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.watcher.join()
        self.bytes = max(self.most, status_bytes("RssAnon")) - self.first


def spec_of(width: int) -> ModelSpec:
    """star-light at any width, with a toy autoencoder and no text encoder, which have their own files."""
    network = dataclasses.replace(STAR_LIGHT.network, width=width)
    return dataclasses.replace(
        STAR_LIGHT, network=network, autoencoder=SMALL_STAR.autoencoder, text=None
    )


def parameters(width: int) -> dict[str, Tensor]:
    """The network's parameters under their published names, without numbers."""
    with torch.device("meta"):
        return to_published(StarUNet(spec_of(width).network).state_dict())


def make_checkpoint(path: Path, width: int, bare: bool) -> None:
    """Write the seeded checkpoint."""
    state = {name: seeded_parameter(name, like.shape) for name, like in parameters(width).items()}
    torch.save(state if bare else {"state_dict": state}, path)
    install_small(path.parent)


def convert(source: Path, target: Path, width: int, dtype: str | None) -> None:
    """Convert as a file given by path is, told from its tensors, and print what it took."""
    SPECS[NAME] = spec_of(width)
    before, began = status_bytes("VmHWM"), time.perf_counter()
    with PeakAnonymous() as anonymous:
        choice = choose_model(str(source), device_info("cpu"), WeightsOptions(target.parent))
        assert choice.conversion is not None
        made = converted.convert(choice.conversion, lambda _: None)
        if dtype:
            convert_component(made, target, torch.float16)
        else:
            made.rename(target)
    size = source.stat().st_size
    peak = status_bytes("VmHWM") - before
    print(
        f"convert: {size / 1e9:.2f} GB in {time.perf_counter() - began:.1f} s, peak resident memory "
        f"{peak / size:.3f} of the checkpoint, anonymous {anonymous.bytes / size:.3f}"
    )


def load(path: Path, precision: Precision, offload: str, cases: list[str]) -> None:
    """Load, run the recorded cases, and print what it took. Outputs are kept beside the file."""
    began = time.perf_counter()
    TemporalVAE.build({})
    imports = time.perf_counter() - began
    began, processor = time.perf_counter(), time.process_time()
    with PeakAnonymous() as anonymous:
        model = load_model(str(path), device="cpu", precision=precision, offload=offload)
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    weights = sum(p.numel() for p in model.network.parameters()) * BYTES[precision]
    print(
        f"load {precision} {offload}: {seconds:.1f} s wall, {processor:.1f} s CPU (and {imports:.1f} s of "
        f"imports), weights {weights / 1e9:.2f} GB, peak anonymous memory {anonymous.bytes / weights:.3f} of them"
    )
    recorded = load_file(ROOT / "tests" / "golden" / "unet_full.safetensors")
    for case in cases:
        shape, tokens = CASES[case]
        x, hint = (seeded_input(f"{case}.{name}", shape).to(model.dtype) for name in ("x", "hint"))
        y = seeded_input(f"{case}.y", (1, tokens, 1024)).to(model.dtype)
        began, processor = time.perf_counter(), time.process_time()
        with (
            torch.inference_mode(),
            PeakAnonymous() as anonymous,
            model.at_work("network"),
        ):
            out = model.network(x, recorded[f"{case}.t"], y, hint).float()
        wanted = recorded[f"{case}.out"]
        kept = path.with_name(f"{precision}-{case}.pt")
        if offload == "none":
            torch.save(out, kept)
        same = torch.equal(out, torch.load(kept)) if kept.exists() else None
        print(
            f"  {case}: relative L2 error {((out - wanted).norm() / wanted.norm()).item():.2e}, equal to none: {same}, "
            f"{time.perf_counter() - began:.1f} s wall, {time.process_time() - processor:.1f} s CPU, "
            f"anonymous memory +{anonymous.bytes / 1e9:.2f} GB"
        )


def in_a_process(function: str, *arguments: object) -> None:
    """Call one of the functions above in its own process, so that its peaks are its own."""
    sys.stdout.flush()
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import load; load.started(sys.argv[2])"
    )
    call = json.dumps([function, *arguments], default=str)
    here = str(Path(__file__).resolve().parent)
    subprocess.run([sys.executable, "-c", code, here, call], check=True)


def started(call: str) -> None:
    """The other end of `in_a_process`."""
    torch.set_num_threads(1)
    function, *arguments = json.loads(call)
    functions: dict[str, Callable[..., None]] = {
        "make_checkpoint": make_checkpoint,
        "convert": convert,
        "load": load,
    }
    paths = [Path(each) if str(each).startswith(os.sep) else each for each in arguments]
    functions[function](*paths)


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where the files are made; a temporary folder")
    parser.add_argument("--width", type=int, default=STAR_LIGHT.network.width)
    parser.add_argument("--dtype", choices=["fp16"], help="what the file stores; as published")
    parser.add_argument("--bare", action="store_true", help="no `state_dict` around the tensors")
    parser.add_argument("--golden", nargs="*", choices=list(CASES), default=[])
    parser.add_argument("--precision", nargs="*", choices=list(BYTES), default=["fp32", "fp16"])
    parser.add_argument(
        "--offload", nargs="+", choices=["none", "model", "block"], default=["none", "block"]
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="load-", dir=options.folder))
    source, target = folder / "light_deg.pt", folder / f"{NAME}.safetensors"
    try:
        in_a_process("make_checkpoint", source, options.width, options.bare)
        in_a_process("convert", source, target, options.width, options.dtype)
        source.unlink()
        for precision in options.precision:
            for offload in options.offload:
                in_a_process("load", target, precision, offload, options.golden)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
