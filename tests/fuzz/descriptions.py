"""Descriptions that a model comes with, changed by seed: specs, configurations, records of hashes, headers of files.

`python -m tests.fuzz.descriptions` runs 300, or the seeds given. Whatever they say, a command ends with a code that
says why, within `MOST_S` and `MOST_BYTES`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starvsr.zoo.components import COMPONENT_KEY, VOCAB_KEY
from starvsr.zoo.folder import embedded_file
from starvsr.zoo.hashes import RECORD_NAME
from starvsr.zoo.metadata import METADATA_KEY
from tests.fuzz.cases import failures_of
from tests.fuzz.worker import Outcome, Worker
from tests.media.clips import Clip, make

MOST_S, MOST_BYTES = 5.0, 600 << 20

_PLACE = "\0here\0"
NASTY: tuple[tuple[str, Callable[[], str]], ...] = (
    ("a digit too many", lambda: "1" * 5000),
    ("1e9", lambda: "1000000000"),
    ("-1e9", lambda: "-1000000000"),
    ("0", lambda: "0"),
    ("1", lambda: "1"),
    ("7", lambda: "7"),
    ("4096", lambda: "4096"),
    ("a half", lambda: "0.5"),
    ("2 ** 63", lambda: str(1 << 63)),
    ("1e999", lambda: "1e999"),
    ("NaN", lambda: "NaN"),
    ("-Infinity", lambda: "-Infinity"),
    ("null", lambda: "null"),
    ("true", lambda: "true"),
    ("a deep list", lambda: "[" * 100_000 + "]" * 100_000),
    ("a less deep object", lambda: '{"a":' * 500 + "1" + "}" * 500),
    ("a long list", lambda: "[" + ",".join(["1000000000"] * 5000) + "]"),
    ("a short list", lambda: "[1, 0, -1]"),
    ("an empty list", lambda: "[]"),
    ("an object", lambda: '{"a": 1, "a": 2}'),
    ("a huge text", lambda: '"' + "x" * 3_000_000 + '"'),
    ("a text", lambda: '"x"'),
    ("a path", lambda: '"../../../x"'),
    ("half a character", lambda: '"\\ud800\\u0000"'),
)


@dataclass(frozen=True)
class Case:
    """One changed description, and what commands made of it."""

    seed: int
    what: str
    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> list[str]:
        """What must not be, a phrase each."""
        found = []
        for outcome in self.outcomes:
            # Weights that are refused end as an input does. What transformers thinks of a configuration is no failure.
            seen = dataclasses.replace(outcome, code={4: 3}.get(outcome.code, outcome.code))
            found += [f for f in failures_of(seen) if "prints ['[transformers]" not in f]
        # What goes well is a restoration, which takes as long as the machine is busy.
        found += [f"{o.seconds:.1f} s" for o in self.outcomes if o.code and o.seconds > MOST_S]
        return found + [
            f"{o.peak_bytes >> 20} MiB" for o in self.outcomes if o.peak_bytes > MOST_BYTES
        ]


def changed(text: str, seed: int) -> tuple[str, str]:
    """What a seed changes in JSON, in words, and the text; the same of the same seed."""
    draw = random.Random(seed)
    root: dict[str, Any] = json.loads(text)
    holder, key = draw.choice(_places(root))
    name, value = NASTY[(seed // 5) % len(NASTY)]
    kind = draw.random()
    if kind < 0.1:
        del holder[key]
        return f"no {key}", json.dumps(root)
    if kind < 0.2 and isinstance(holder, dict):
        holder["x" * draw.choice((1, 100_000))] = _PLACE
        key = "a new key"
    else:
        holder[key] = _PLACE
    return f"{key} is {name}", json.dumps(root).replace(json.dumps(_PLACE), value())


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in it: what holds it, and its key there; of a vocabulary's thousands a few."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    found = [(value, key) for key in keys[:100]]
    for key in keys:
        if isinstance(value[key], (dict, list)):
            found += _places(value[key])
    return found


def run_case(seed: int, clip: Path, folder: Path, worker: Worker) -> Case:
    """Make the files of a seed in a folder, which is emptied before, and run commands on them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    kinds = (_spec_case, _component_case, _record_case, _header_case, _spec_case)
    what, commands = kinds[seed % len(kinds)](seed, clip, folder)
    return Case(seed, what, tuple(worker.run(command) for command in commands))


def _upscale(clip: Path, model: Path, folder: Path) -> list[list[str]]:
    options = [
        str(clip),
        str(folder / "out.mkv"),
        "--model",
        str(model),
        "--offline",
        "--scale",
        "1",
    ]
    options += ["--steps", "1"] if "toy" in model.name else []
    return [["plan", *options]]


def _spec_case(seed: int, clip: Path, folder: Path) -> tuple[str, list[list[str]]]:
    name = ("nano", "toy")[seed // 5 % 2]
    header, data = _parts(embedded_file(name))
    what, header["__metadata__"][METADATA_KEY] = changed(header["__metadata__"][METADATA_KEY], seed)
    path = _write(folder / f"{name}.safetensors", json.dumps(header).encode(), data)
    return f"spec of {name}: {what}", _upscale(clip, path, folder)


def _component_case(seed: int, clip: Path, folder: Path) -> tuple[str, list[list[str]]]:
    name, key = (
        ("toy-vae", COMPONENT_KEY),
        ("toy-text", COMPONENT_KEY),
        ("toy-text", VOCAB_KEY),
    )[seed // 5 % 3]
    header, data = _parts(embedded_file(name))
    what, header["__metadata__"][key] = changed(header["__metadata__"][key], seed)
    _write(folder / f"{name}.safetensors", json.dumps(header).encode(), data)
    model = folder / "toy-model.safetensors"
    shutil.copy(embedded_file("toy"), model)
    command = ["upscale", *_upscale(clip, model, folder)[0][1:], "--prompt", f"words {seed}"]
    return f"{key} of {name}: {what}", [command]


def _record_case(seed: int, clip: Path, folder: Path) -> tuple[str, list[list[str]]]:
    source = {"size_bytes": 5, "sha256": "a" * 64, "commit": "c" * 40}
    made = {"size_bytes": 7, "sha256": "b" * 64, "dtype": "fp16"}
    record = {
        "version": 1,
        "sources": {"a/b/c@main": source},
        "components": {"cogvideox-vae": made},
    }
    what, text = changed(json.dumps(record), seed)
    (folder / RECORD_NAME).write_text(text)
    (folder / "published").mkdir()
    command = ["download-weights", "cogvideox-vae", "--dir", str(folder)]
    source_option = ["--source", str(folder / "published")]
    return f"hashes: {what}", [[*command, "--verify"], [*command, "--dry-run", *source_option]]


def _header_case(seed: int, clip: Path, folder: Path) -> tuple[str, list[list[str]]]:
    header, data = _parts(embedded_file("nano"))
    metadata = header.pop("__metadata__")
    few = dict(list(header.items())[:3])
    what, text = changed(json.dumps(few), seed)
    rest = json.dumps({**dict(list(header.items())[3:]), "__metadata__": metadata})
    raw = f"{text.rstrip()[:-1]},{rest.lstrip()[1:]}".encode()
    sizes = (len(raw), 0, 1 << 62, len(raw) + 1, 99_000_000)
    size = sizes[seed // 5 % 10] if seed // 5 % 10 < len(sizes) else len(raw)
    path = _write(folder / "nano.safetensors", raw, data, size)
    return f"header of {size} bytes: {what}", _upscale(clip, path, folder)


def _parts(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def _write(path: Path, header: bytes, data: bytes, size: int | None = None) -> Path:
    path.write_bytes((len(header) if size is None else size).to_bytes(8, "little") + header + data)
    return path


def warm_up(clip: Path, folder: Path, worker: Worker) -> None:
    """Have a worker load what every command needs, which is none of its case."""
    folder.mkdir(exist_ok=True)
    worker.run(_upscale(clip, embedded_file("nano"), folder)[0])
    toy = [
        "upscale",
        str(clip),
        str(folder / "warm.mkv"),
        "--model",
        "toy",
        "--scale",
        "1",
        "--steps",
        "1",
    ]
    worker.run([*toy, "--prompt", "warm", "--weights-dir", str(folder)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.descriptions", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="seeds to run (default: 0..299)")
    parser.add_argument("--count", type=int, default=300, help="how many seeds (default 300)")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args(arguments)
    worker, codes, slowest, peak, failed = Worker(), Counter[int](), 0.0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        clip = make(Path(name) / "clip.mkv", Clip(frames=2, width=32, height=24))
        warm_up(clip, Path(name) / "case", worker)
        for seed in options.seeds or range(options.count):
            case = run_case(seed, clip, Path(name) / "case", worker)
            failed += bool(case.failures)
            codes.update(outcome.code for outcome in case.outcomes)
            slowest = max(slowest, *(outcome.seconds for outcome in case.outcomes))
            peak = max(peak, *(outcome.peak_bytes for outcome in case.outcomes))
            if case.failures or options.verbose:
                said = " | ".join(o.err.strip()[-300:] for o in case.outcomes)
                print(
                    f"seed {seed} ({case.what[:100]}): {case.failures or 'fine'}: {said}",
                    flush=True,
                )
    worker.stop()
    print(f"codes {dict(codes)}, slowest {slowest:.1f} s, {peak >> 20} MiB, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
