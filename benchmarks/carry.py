"""A folder of wheels that `benchmarks/gpu.py` needs, for a machine without a network and with another Python.

    python benchmarks/carry.py FOLDER [--python 3.12] [--have NAME ...] [--limit-mib 64]

Resolves what pyproject.toml needs, and pytest, for that Python on Linux on x86-64 with the pip of the Python that runs
this, and downloads it. Left out are torch, whose build has to fit the machine's driver, what comes with it, xformers,
which has to fit that torch, what only downloads and text encoders need, since nothing of that is measured, and what
the machine has (`--have`, names as `pip list` shows them there). Exit code 1 if the folder is larger than the limit;
nothing is removed then.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WITH_TORCH = (
    "torch",
    "numpy",
    "filelock",
    "fsspec",
    "typing-extensions",
    "jinja2",
    "networkx",
    "sympy",
)
"""With any torch: itself, what it requires, and NumPy."""
NOT_CARRIED = ("xformers", "triton", "hf-xet", "transformers", "tokenizers", "sentencepiece")
ADDED = ("pytest", "pytest-timeout")
"""The golden results of the toy are in its tests."""
_GLIBC = (*range(5, 40), "2014")


def requirements(root: Path = ROOT) -> list[str]:
    """The project's own, and what tests need; the first word of each is a name."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *ADDED]


def name_of(requirement: str) -> str:
    """The normalised name of a requirement or of a wheel's file."""
    found = re.match(r"[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*?(?=[^A-Za-z0-9_.-]|-\d|$)", requirement)
    if found is None:
        raise ValueError(f"no name in {requirement!r}")
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def platforms() -> list[str]:
    """pip compares these tags one by one, so each version of the system's library is one."""
    tags = [f"manylinux{'' if each == '2014' else '_2_'}{each}_x86_64" for each in _GLIBC]
    return [part for tag in tags for part in ("--platform", tag)]


def command_for(python: str, wanted: Iterable[str], folder: Path) -> list[str]:
    """The download with all dependencies, for that Python whatever runs this."""
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--only-binary=:all:", "--implementation", "cp", "--python-version", python),
        *platforms(),
        *("--dest", str(folder)),
        *wanted,
    ]


def keep(wheels: Iterable[Path], left_out: Iterable[str]) -> list[Path]:
    """The wheels that are carried."""
    names = {name_of(name) for name in left_out}
    return [wheel for wheel in wheels if name_of(wheel.name) not in names]


def fill(folder: Path, python: str, have: Sequence[str]) -> list[Path]:
    """Download into an empty folder; the wheels there. Raises SystemExit if pip cannot."""
    left_out = (*WITH_TORCH, *NOT_CARRIED, *have)
    names = {name_of(name) for name in left_out}
    wanted = [each for each in requirements() if name_of(each) not in names]
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        done = subprocess.run(command_for(python, wanted, Path(fresh)))
        if done.returncode:
            raise SystemExit(f"pip download ended with {done.returncode}")
        for wheel in keep(sorted(Path(fresh).glob("*.whl")), left_out):
            wheel.rename(folder / wheel.name)
    return sorted(folder.glob("*.whl"))


def how_to(folder: Path) -> str:
    """How the other machine starts the measurement."""
    wheels = shlex.quote(str(folder))
    return (
        "there, in the project's folder, with the wheels in it as here:\n"
        f"  python3 -m pip install --no-index --no-deps --target build/site {wheels}/*.whl\n"
        "  PYTHONPATH=build/site python3 benchmarks/gpu.py --results build/gpu.jsonl"
    )


def main() -> int:
    """Fill the folder, and say how large it is and how it is used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="made if need be, and empty of wheels before")
    parser.add_argument("--python", default="3.12", help="of the machine that is measured")
    parser.add_argument("--have", nargs="+", default=[], metavar="NAME", help="what it has already")
    parser.add_argument("--limit-mib", type=float, default=64, help="most for all wheels together")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if any(options.folder.glob("*.whl")):
        parser.error(f"{options.folder} has wheels already: give another folder, or remove them")
    wheels = fill(options.folder, options.python, options.have)
    sizes = {wheel.name: wheel.stat().st_size for wheel in wheels}
    total = sum(sizes.values())
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:8]:
        print(f"{size / 2**20:7.1f} MiB  {name}")
    print(f"{total / 2**20:7.1f} MiB in {len(wheels)} wheels")
    if total > options.limit_mib * 2**20:
        print(
            f"more than the limit of {options.limit_mib:g} MiB: name what the machine has with --have",
            file=sys.stderr,
        )
        return 1
    print(how_to(options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
