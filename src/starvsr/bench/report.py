"""A benchmark's result as plain data, as text, and beside an earlier one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from starvsr import __version__
from starvsr.bench.job import JobTime
from starvsr.bench.machine import Ceilings, Seconds, describe_machine
from starvsr.bench.network import Layer, NetworkCall
from starvsr.errors import InputError
from starvsr.media.files import written_errors
from starvsr.media.removal import Right, remove_file

VERSION = 1

MIB = 2**20


@dataclass(frozen=True)
class Result:
    """One run of the benchmark."""

    model: str
    ceilings: Ceilings
    """Means of two measurements, before and behind the rest."""
    calls: tuple[NetworkCall, ...]
    layers: tuple[Layer, ...]
    """Of the last call, and its rest; empty where they were not asked for."""
    job: JobTime

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`, with the machine and the time of day."""
        return {
            "version": VERSION,
            "event": "bench",
            "starvsr": __version__,
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "model": self.model,
            "ceilings": dataclasses.asdict(self.ceilings),
            "calls": [
                {
                    **dataclasses.asdict(call),
                    "gflops": call.gflops,
                    "share_of_ceiling": call.gflops / self.ceilings.best_gflops,
                }
                for call in self.calls
            ],
            "layers": [
                {
                    **dataclasses.asdict(layer),
                    "gflops": layer.gflops,
                    "share_of_ceiling": layer.gflops / self.ceilings.best_gflops,
                }
                for layer in self.layers
            ],
            "job": {
                **dataclasses.asdict(self.job),
                "seconds_per_frame": self.job.seconds_per_frame,
                "network_share": self.job.network_share,
            },
        }


def append_history(path: Path, result: dict[str, Any]) -> None:
    """Add a result to a file of one JSON object a line. Raises OutputError where it cannot be written."""
    with written_errors(path), path.open("a") as file:
        file.write(json.dumps(result) + "\n")


def read_last(path: Path, model: str) -> dict[str, Any] | None:
    """The last result of a model in a history; None where there is none of it that this version can read.

    Raises InputError where the file is no history, OutputError where nothing can be added to it.
    """
    is_new = not path.exists()
    # Tried now rather than when all is measured.
    with written_errors(path), path.open("a"):
        pass
    if is_new:
        with written_errors(path):
            remove_file(path, Right.TEMPORARY)
        return None
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no history of starvsr bench: {error}") from error
    if not all(isinstance(line, dict) and line.get("event") == "bench" for line in lines):
        raise InputError(f"{path} is no history of starvsr bench: it holds other results")
    of_model = [
        line for line in lines if (line.get("version"), line.get("model")) == (VERSION, model)
    ]
    return of_model[-1] if of_model else None


def as_text(result: dict[str, Any], before: dict[str, Any] | None = None) -> str:
    """A result for people, and its ratios to an earlier one."""
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
            f"{call['seconds']['wall']:.3f} s ({call['seconds']['processor']:.3f} s of processor time), "
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
        f"{job['seconds_per_frame']:.3f} s a frame, {job['processor_s']:.1f} s of processor time, "
        f"peak {job['peak_bytes'] / MIB:.0f} MiB",
        *(
            f"  {name:<24} {spent:8.2f} s  {spent / job['wall_s']:6.1%}"
            for name, spent in sorted(stages.items(), key=lambda stage: -stage[1])
        ),
    ]


def _comparison(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """Ratios of seconds, now over before, and what makes them doubtful."""
    lines = [f"beside the result of {before['at']} (starvsr {before['starvsr']}):"]
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
                f"  latent of {frames}x{rows}x{columns}: {ratio:.2f} of the seconds, {shares:.2f} of the share of the "
                "ceiling"
            )
    job, old = now["job"], before["job"]
    same = all(
        # JSON knows no tuples.
        list(job[key]) == old[key]
        for key in ("input_size", "output_size")
    )
    if same and job["frames"] == old["frames"]:
        lines.append(f"  upscale: {job['wall_s'] / old['wall_s']:.2f} of the seconds")
    return lines
