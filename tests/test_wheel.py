"""The wheel: what it carries, and that it upscales where the repository is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import starvsr
from starvsr.media.probe import probe
from tests.media.clips import Audio, Clip, make
from tests.test_dockerfile import copied

ROOT = Path(__file__).parent.parent
MOST_BYTES = 8_000_000

pytestmark = pytest.mark.slow


def run(*command: str | Path, folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """In another folder, without anything that could lead back to the repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    found = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env={**kept, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or found.returncode == 0, found.stderr
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, source = (tmp_path_factory.mktemp(name) for name in ("wheel", "source"))
    # As the Dockerfile's first stage: of these files alone.
    for name in copied("wheel"):
        if (ROOT / name).is_dir():
            leave_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=leave_out)
        else:
            shutil.copy(ROOT / name, source / name)
    # The extra dev has what builds it; otherwise pip fetches that.
    how = ["--no-build-isolation"] if find_spec("hatchling") else []
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *how)
    made = run(*pip, "--wheel-dir", folder, source, folder=folder, check=False)
    if made.returncode and not how:
        pytest.skip("hatchling is not installed and cannot be fetched: pip install '.[dev]'")
    assert made.returncode == 0, made.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with the wheel, which borrows its dependencies from this one."""
    folder = tmp_path_factory.mktemp("installed") / "an environment"
    venv.create(folder, with_pip=False)
    names = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", names))
    programs = Path(sysconfig.get_path("scripts", "venv", names))
    # Of this environment's own starvsr only metadata is there, behind that of the wheel.
    (packages / "borrowed.pth").write_text(
        "\n".join({sysconfig.get_path(kind) for kind in ("purelib", "platlib")})
    )
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", programs / "python")
    run(*pip, "install", "--no-deps", "--no-index", wheel, folder=folder)
    return programs


def test_it_is_small_and_carries_what_the_package_has(wheel: Path) -> None:
    assert wheel.name == f"starvsr-{starvsr.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size <= MOST_BYTES
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if not name.startswith("starvsr-")}
    package = ROOT / "src" / "starvsr"
    wanted = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == wanted
    assert {"starvsr/py.typed", "starvsr/zoo/nano.safetensors"} <= names


def test_it_upscales_where_the_repository_is_not(installed: Path, tmp_path: Path) -> None:
    where = run(
        installed / "python", "-c", "import starvsr; print(starvsr.__file__)", folder=tmp_path
    )
    assert Path(where.stdout.strip()).is_relative_to(installed.parent)
    clip = Clip(frames=3, width=32, height=24, audio=(Audio("aac"),))
    source, program = make(tmp_path / "clip.mp4", clip), installed / "starvsr"
    assert run(program, "--version", folder=tmp_path).stdout == f"starvsr {starvsr.__version__}\n"
    run(program, "upscale", source.name, "--scale", "2", folder=tmp_path)
    made = probe(tmp_path / "clip-64x48.mkv")
    assert [stream.kind for stream in made.streams] == ["video", "audio"]
    # The other embedded model has more files: an autoencoder and a text encoder.
    toy = ("--model", "toy", "--steps", "1", "--frames", "1")
    run(program, "upscale", source.name, "out.mp4", *toy, folder=tmp_path)
    missing = run(program, "upscale", "no.mp4", "out.mkv", folder=tmp_path, check=False)
    assert (missing.returncode, missing.stderr.count("\n")) == (3, 1)
