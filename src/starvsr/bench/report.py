"""A benchmark's result as plain data, as text, and compared with an earlier one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starvsr import __version__
from starvsr.bench.job import JobTime
from starvsr.bench.machine import Ceilings, Seconds, describe_machine
from starvsr.bench.network import Layer, NetworkCall, Work
from starvsr.errors import InputError, OutputError
from starvsr.media.files import check_writable, written_errors
from starvsr.media.strict_json import parse_json
from starvsr.media.textfiles import read_text

VERSION = 1

MOST_HISTORY_BYTES = 64 << 20

MIB = 2**20


@dataclass(frozen=True)
class Result:
    """One run of the benchmark."""

    model: str
    ceilings: Ceilings
    """Means of two measurements, before and after the rest."""
    calls: tuple[NetworkCall, ...]
    layers: tuple[Layer, ...]
    """Of the last call, and its rest; empty if not requested."""
    job: JobTime

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`, with the machine and the time of day."""
        return {
            "version": VERSION,
            "event": "bench",
            "starvsr": __version__,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "model": self.model,
            "ceilings": dataclasses.asdict(self.ceilings),
            "calls": [self._work(call) for call in self.calls],
            "layers": [self._work(layer) for layer in self.layers],
            "job": {
                **dataclasses.asdict(self.job),
                "seconds_per_frame": self.job.seconds_per_frame,
                "network_share": self.job.network_share,
            },
        }

    def _work(self, work: Work) -> dict[str, Any]:
        share = work.gflops / self.ceilings.best_gflops
        return {**dataclasses.asdict(work), "gflops": work.gflops, "share_of_ceiling": share}


def append_history(path: Path, result: dict[str, Any]) -> None:
    """Add a result to a file of one JSON object a line. Raises OutputError where it cannot be written."""
    with written_errors(path), path.open("a") as file:
        file.write(json.dumps(result) + "\n")


def read_last(path: Path, model: str) -> dict[str, Any] | None:
    """The last result of a model in a history that this version can read; None if there is none.

    Raises InputError if the file is not a history, OutputError if it is not writable.
    """
    # Checked before measuring, not after.
    with written_errors(path):
        if not path.exists():
            _check_place(path)
            return None
    try:
        text = read_text(path, MOST_HISTORY_BYTES)
        lines = [parse_json(line, MOST_HISTORY_BYTES) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{path} is not a history of starvsr bench: it {error}") from error
    with written_errors(path), path.open("a"):
        pass
    results = [line for line in lines if isinstance(line, dict) and line.get("event") == "bench"]
    if len(results) < len(lines):
        raise InputError(f"{path} is not a history of starvsr bench: it contains other results")
    of_model = [
        one for one in results if (one.get("version"), one.get("model")) == (VERSION, model)
    ]
    if not of_model:
        return None
    _check_result(path, of_model[-1])
    return of_model[-1]


def _check_place(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(
            f"{path} cannot be written: the folder {folder} does not exist: make it first"
        )
    check_writable(folder)


def _check_result(path: Path, result: dict[str, Any]) -> None:
    """Raise InputError for anything that no benchmark wrote."""
    try:
        _comparison(result, result)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a history of starvsr bench: its last result of {result['model']} is damaged"
        ) from error


def as_text(result: dict[str, Any], before: dict[str, Any] | None = None) -> str:
    """A result as text, and its ratios to an earlier one."""
    machine, ceilings, job = result["machine"], result["ceilings"], result["job"]
    lines = [
        f"{machine['processor']}, {machine['vector_units']}, {machine['threads']} threads, torch {machine['torch']}",
        f"ceilings: matrix product {ceilings['matmul_gflops']:.0f} GFLOP/s, convolution "
        f"{ceilings['conv_gflops']:.0f} GFLOP/s, copy {ceilings['copy_gbytes']:.1f} GB/s",
        "",
    ]
    for call in result["calls"]:
        frames, rows, columns = call["latent"]
        lines.append(
            f"{result['model']}, latent of {frames}x{rows}x{columns}: {call['flops'] / 1e9:.1f} GFLOP, "
            f"{call['seconds']['wall']:.3f} s ({call['seconds']['processor']:.3f} s of CPU time), "
            f"{call['gflops']:.0f} GFLOP/s = {call['share_of_ceiling']:.0%} of the ceiling, "
            f"+{call['memory_bytes'] / MIB:.0f} MiB"
        )
    spent = sum(_undisturbed(layer) for layer in result["layers"])
    for layer in result["layers"]:
        lines.append(
            f"  {layer['name']:<24} {_undisturbed(layer) * 1e3:8.2f} ms  {_undisturbed(layer) / spent:6.1%}  "
            f"{layer['flops'] / 1e9:7.2f} GFLOP  {layer['gflops']:6.0f} GFLOP/s = {layer['share_of_ceiling']:.0%}"
        )
    lines += ["", *_job_lines(job)]
    if before is not None:
        lines += ["", *_comparison(result, before)]
    return "\n".join(lines)


def _undisturbed(timed: dict[str, Any]) -> float:
    return Seconds(**timed["seconds"]).undisturbed


def _job_lines(job: dict[str, Any]) -> list[str]:
    size = "x".join(map(str, job["input_size"]))
    larger = "x".join(map(str, job["output_size"]))
    rest = job["wall_s"] - sum(job["seconds"].values())
    stages = {**job["seconds"], "everything else": rest}
    return [
        f"upscale, {job['frames']} frames, {size} -> {larger}: {job['wall_s']:.2f} s, "
        f"{job['seconds_per_frame']:.3f} s a frame, {job['processor_s']:.1f} s of CPU time, "
        f"peak {job['peak_bytes'] / MIB:.0f} MiB",
        *(
            f"  {name:<24} {spent:8.2f} s  {spent / job['wall_s']:6.1%}"
            for name, spent in sorted(stages.items(), key=lambda stage: -stage[1])
        ),
    ]


def _comparison(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """Ratios of seconds, now over before, and what makes them incomparable."""
    lines = [f"compared with the result of {before['at']} (starvsr {before['starvsr']}):"]
    different = [
        name for name, value in now["machine"].items() if before["machine"].get(name) != value
    ]
    if different:
        lines.append(f"  not comparable as seconds: {', '.join(different)} differ")
    earlier = {tuple(call["latent"]): call for call in before["calls"]}
    for call in now["calls"]:
        other = earlier.get(tuple(call["latent"]))
        if other is not None:
            ratio = _undisturbed(call) / _undisturbed(other)
            shares = call["share_of_ceiling"] / other["share_of_ceiling"]
            frames, rows, columns = call["latent"]
            lines.append(
                f"  latent of {frames}x{rows}x{columns}: {ratio:.2f}x the seconds, {shares:.2f}x the fraction of the "
                "ceiling"
            )
    job, old = now["job"], before["job"]
    same = all(
        # JSON has no tuples.
        list(job[key]) == old[key]
        for key in ("input_size", "output_size")
    )
    if same and job["frames"] == old["frames"]:
        lines.append(f"  upscale: {job['wall_s'] / old['wall_s']:.2f}x the seconds")
    return lines
