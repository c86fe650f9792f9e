"""Compiled networks give what they give without, later processes find what was compiled, and what lacks is said."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from starvsr.bench.network import network_inputs
from starvsr.errors import UsageError
from starvsr.models.compiled import (
    _watch,
    check_compiler,
    compiled_folder,
    compiler_for,
    compiling_s,
)
from starvsr.models.network import VideoNetwork
from starvsr.models.recurrent import Memory, RecurrentNet
from starvsr.specs import NANO
from starvsr.zoo.load import save_model
from tests.golden.seeded_init import fill_module, seeded_input
from tests.job.test_resume import packets
from tests.media.clips import Clip, make
from tests.models.helpers import TINY, relative_error, seeded_inputs, seeded_net
from tests.models.test_cogvideox import seeded
from tests.models.test_recurrent import SMALL

# The compiler's own imports.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

CPU = torch.device("cpu")
ONE_LEVEL = dataclasses.replace(TINY, multipliers=(1,), attention_scales=(1.0,))
"""Every kind of part that is compiled."""

RUN_SCRIPT = """
import json, sys
from starvsr.cli.app import run
code = run(sys.argv[1:])
from torch._dynamo.utils import counters
found = counters["inductor"]
print(json.dumps([code, found["fxgraph_cache_hit"], found["fxgraph_cache_miss"]]))
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "compiled"))
    # Sizes that an earlier test has seen would be compiled as any size. It also forgets who watches.
    torch._dynamo.reset()
    _watch.cache_clear()


@pytest.fixture(scope="module")
def small() -> RecurrentNet:
    net = RecurrentNet(SMALL).eval()
    fill_module(net, 0)
    return net.requires_grad_(False)


@pytest.fixture
def model_file(tmp_path: Path, small: RecurrentNet) -> Path:
    path = tmp_path / "small.safetensors"
    autoencoder = dataclasses.replace(NANO.autoencoder, factor=2)
    spec = dataclasses.replace(NANO, name="small", network=SMALL, autoencoder=autoencoder)
    save_model(path, spec, small.state_dict())
    return path


def compiled(net: VideoNetwork) -> VideoNetwork:
    twin = copy.deepcopy(net)
    twin.use_compiler(compiler_for(CPU))
    return twin


def test_the_folder_is_torchs_own_or_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "own"))
    assert compiled_folder() == tmp_path / "own"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled_folder() == tmp_path / "starvsr" / "compiled"


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_compiler.cache_clear()
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(UsageError, match=r"--compile cannot cache .*TORCHINDUCTOR_CACHE_DIR"):
        check_compiler(CPU)


@pytest.mark.slow
def test_a_part_of_each_kind_of_a_unet_gives_the_same() -> None:
    """All of them would take minutes here."""
    net = seeded_net(ONE_LEVEL).requires_grad_(False)
    fast, kinds = copy.deepcopy(net), set()
    compiler = compiler_for(CPU)

    def first_of_its_kind(part: Callable[..., Any]) -> Callable[..., Any]:
        if part.__qualname__ in kinds:
            return part
        kinds.add(part.__qualname__)
        return compiler(part)

    fast.use_compiler(first_of_its_kind)
    assert len(kinds) == 4, kinds
    given: tuple[Tensor | None, ...] = seeded_inputs(ONE_LEVEL, (3, 8, 10))
    before = compiling_s()
    with torch.inference_mode():
        assert relative_error(fast(*given), net(*given)) < 1e-5
    assert compiling_s() > before


@pytest.mark.slow
@pytest.mark.parametrize("network", ["star", "cogvideox", "recurrent"])
def test_parts_are_whole_and_sizes_share_what_is_compiled(
    network: str, small: RecurrentNet
) -> None:
    """Without the compiler's last stage, which would take minutes here."""
    seen: list[int] = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        seen.append(len(graph.graph.nodes))
        return graph.forward

    nets: dict[str, Callable[[], VideoNetwork]] = {
        "star": partial(seeded_net, ONE_LEVEL),
        "cogvideox": seeded,
        "recurrent": lambda: copy.deepcopy(small),
    }
    net = nets[network]()
    fast = copy.deepcopy(net.requires_grad_(False))
    counts = []
    with torch.inference_mode(), torch._dynamo.config.patch(recompile_limit=256):
        fast.use_compiler(lambda part: torch.compile(part, backend=count, fullgraph=True))
        for size in ((4, 8, 12), (3, 8, 12), (2, 8, 12), (5, 12, 16), (6, 16, 8)):
            given = network_inputs(net, size)
            assert relative_error(fast(*given), net(*given)) < 1e-5
            counts.append(len(seen))
    # At most once more for all other lengths; pictures with a side of one, or two equal ones, are cases of their own.
    assert counts[1] == counts[2] <= 2 * counts[0], counts
    assert counts[4] <= 4 * counts[0], counts


@pytest.mark.slow
def test_a_later_process_finds_what_was_compiled(
    model_file: Path, small: RecurrentNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make(tmp_path / "clip.mkv", Clip(frames=3, width=32, height=24))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kept"))
    # What is compiled is for a number of threads.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made, found = [], []
    for name in ("first.mkv", "second.mkv"):
        flags = ["--model", str(model_file), "--scale", "1", "--compile", "-q", "-c", "ffv1"]
        command = [sys.executable, "-c", RUN_SCRIPT, "upscale", str(clip), str(tmp_path / name)]
        shown = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
        found.append(json.loads(shown.stdout))
        made.append(packets(tmp_path / name))
    (code, hits, misses), again = found
    # The probe and a frame.
    assert (code, hits, misses) == (0, 0, 2)
    assert again == [0, 2, 0]
    assert made[0] == made[1]

    # What these processes compiled gives what the network gives.
    fast, before = compiled(small), compiling_s()
    x = seeded_input("x", (1, SMALL.latent_channels, 3, 12, 16))
    given = (x, torch.tensor([100]), torch.zeros(1, 1, 1), None)
    with torch.inference_mode():
        wanted, got = small(*given, Memory()), fast(*given, Memory())
        spent = compiling_s()
        fast(*given, Memory())
    assert relative_error(got, wanted) < 1e-6
    assert compiling_s() == spent > before


@pytest.mark.slow
def test_without_a_compiler_nothing_is_begun(model_file: Path, tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mkv", Clip(frames=1, width=32, height=24))
    before = set(tmp_path.iterdir())
    command = [sys.executable, "-m", "starvsr", "upscale", str(clip), str(tmp_path / "out.mkv")]
    shown = subprocess.run(
        [*command, "--model", str(model_file), "--compile"],
        capture_output=True,
        text=True,
        env={**os.environ, "CXX": "no-such-compiler"},
    )
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "error: --compile does not work here: it needs a C++ compiler" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert set(tmp_path.iterdir()) == before
