"""The public names of the package, and the example that uses them."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import pydoc
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import starvsr
from starvsr.media.probe import probe
from starvsr.models.unet import StarUNet
from starvsr.zoo.load import save_model
from tests.conftest import TOY
from tests.golden.seeded_init import fill_module
from tests.media.clips import Clip, make

EXAMPLE = Path(__file__).parent.parent / "examples" / "python_api.py"


def test_importing_the_package_loads_nothing() -> None:
    script = "import sys, starvsr; print([m for m in sys.modules if m.startswith(('starvsr.', 'torch', 'av'))])"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


def test_models_are_loaded_and_written_without_video() -> None:
    script = "import sys, starvsr.zoo.load; sys.exit('av' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", starvsr.__all__)
def test_public_names(name: str) -> None:
    value: Any = getattr(starvsr, name)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__doc__
        assert getattr(importlib.import_module(value.__module__), name) is value


def test_help_explains_every_option() -> None:
    groups = [getattr(starvsr, name) for name in starvsr.__all__ if name.endswith("Options")]
    for group in groups:
        text = pydoc.plain(pydoc.render_doc(group))
        for field in dataclasses.fields(group):
            assert f"{field.name}: " in text
    text = pydoc.plain(pydoc.render_doc(starvsr.SizeOptions))
    assert "scale: float | None = None" in text
    assert "Factor of both sides, above 0 and at most `MOST_SIDE_PX`" in text
    assert "SizeOptions(scale=2)" in pydoc.plain(pydoc.render_doc(starvsr.upscale_video))


def test_names_are_listed_before_their_first_use() -> None:
    script = "import starvsr; print(set(starvsr.__all__) <= set(dir(starvsr)))"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "True"


@pytest.mark.parametrize("name", ["no_such_name", "NoSuchOptions", "prepare"])
def test_other_names(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'starvsr' has no attribute '{name}'"):
        getattr(starvsr, name)


def test_the_version_is_the_installed_one() -> None:
    assert importlib.metadata.version("starvsr") == starvsr.__version__


def test_a_job_runs_from_the_sources_alone(tmp_path: Path) -> None:
    """Without an installation, as on a machine that only has a copy of the folder."""
    code = (
        "import importlib.metadata, sys\n"
        "def absent(name): raise importlib.metadata.PackageNotFoundError(name)\n"
        "importlib.metadata.version = absent\n"
        "from starvsr.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    sample, target = Path(__file__).parent.parent / "examples" / "butterfly.mp4", tmp_path / "a.mp4"
    call = ["upscale", str(sample), str(target), "--frames", "1", "--scale", "1", "--model", "nano"]
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True)
    assert (done.returncode, target.exists()) == (0, True), done.stderr


def test_the_options_are_all_public() -> None:
    from starvsr import options

    assert {name for name in vars(options) if name.endswith("Options")} == {
        name for name in starvsr.__all__ if name.endswith("Options")
    }


@pytest.mark.usefixtures("one_thread")
def test_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make(tmp_path / "in.mp4", Clip(frames=3, width=16, height=12))
    target = tmp_path / "out.mp4"
    model = tmp_path / "model.safetensors"
    quick = dataclasses.replace(TOY, steps=1, cfg=1.0)
    save_model(model, quick, fill_module(StarUNet(quick.network), 0).state_dict())
    main = runpy.run_path(str(EXAMPLE))["main"]
    main(str(source), str(target), str(model))
    shown = capsys.readouterr().out
    assert f"{target}: 3 frames of 32x24" in shown
    assert "restore: 3 of 3" in shown
    assert "frames in memory: (3, 3, 36, 64)" in shown
    assert probe(target).width == 32


def test_the_example_says_what_went_wrong(tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLE))["main"]
    with pytest.raises(SystemExit, match=r"^error: .*no\.mp4 does not exist"):
        main(str(tmp_path / "no.mp4"), str(tmp_path / "out.mp4"))
