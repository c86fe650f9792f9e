"""`starvsr bench`: figures as text and JSON, its history, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from starvsr.bench.machine import Ceilings
from starvsr.errors import UsageError
from starvsr.options import UpscaleOptions
from tests.cli.conftest import Cli

QUICK = ("--frames", "2", "--size", "64x36", "--latent", "1x8x8", "--repeats", "1")


def test_figures_of_nano(cli: Cli) -> None:
    result = cli("bench", *QUICK, "--layers", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["version"] == 1
    assert found["model"] == "nano"
    assert set(found["machine"]) >= {"processor", "threads", "torch", "vector_units"}
    (call,) = found["calls"]
    assert call["latent"] == [1, 8, 8]
    best = max(found["ceilings"]["matmul_gflops"], found["ceilings"]["conv_gflops"])
    assert call["share_of_ceiling"] == pytest.approx(call["gflops"] / best)
    assert found["layers"][-1]["name"] == "the rest"
    assert sum(layer["flops"] for layer in found["layers"]) == call["flops"]
    assert all(
        layer["share_of_ceiling"] == pytest.approx(layer["gflops"] / best)
        for layer in found["layers"]
    )
    assert found["job"]["output_size"] == [256, 144]


def test_figures_are_float32s_whatever_a_job_would_take(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARVSR_PRECISION", "bf16")
    monkeypatch.setattr("starvsr.bench.run.measure_ceilings", lambda _: Ceilings(1.0, 1.0, 1.0))
    taken: list[str] = []

    def watching(_: object, __: object, options: UpscaleOptions, **___: object) -> None:
        taken.append(options.device.precision)
        raise UsageError("enough")

    monkeypatch.setattr("starvsr.bench.run.measure_job", watching)
    result = cli("bench", *QUICK, "--layers")
    assert (result.code, "enough" in result.error, taken) == (2, True, ["fp32"])


def test_history_and_comparison(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # They take most of the time, and are measured above.
    ceilings = Ceilings(matmul_gflops=100.0, conv_gflops=90.0, copy_gbytes=10.0)
    monkeypatch.setattr("starvsr.bench.run.measure_ceilings", lambda _: ceilings)
    history = tmp_path / "history.jsonl"
    first = cli("bench", *QUICK, "--history", history)
    assert first.code == 0, first.err
    assert "compared with the result" not in first.out
    assert "the rest" not in first.out
    second = cli("bench", *QUICK, "--history", history, "--threads", "1")
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert len(lines) == 2
    assert f"compared with the result of {lines[0]['at']}" in second.out
    ratio = lines[1]["job"]["wall_s"] / lines[0]["job"]["wall_s"]
    assert f"upscale: {ratio:.2f}x the seconds" in second.out
    assert "not comparable" not in second.out
    history.write_text(json.dumps({**lines[0], "machine": {"processor": "another"}}) + "\n")
    other = cli("bench", *QUICK, "--history", history)
    assert "not comparable as seconds: processor, threads" in other.out
    history.write_text(json.dumps({**lines[0], "model": "another"}) + "\n")
    first_of_nano = cli("bench", *QUICK, "--history", history)
    assert (first_of_nano.code, "compared with the result" in first_of_nano.out) == (0, False)
    assert len(history.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--latent", "4x8"], 2, "--latent 4x8 is not allowed: give 3 numbers such as 4x108x192"),
        (["--latent", "0x8x8"], 2, "--latent 0x8x8 is not allowed"),
        (["--size", "65x36"], 2, "--size 65x36 is not allowed: both must be even"),
        (["--size", "64"], 2, "--size 64 is not allowed: give 2 numbers such as 480x270"),
        ([*QUICK[:4], "--latent", "1x7x8"], 2, "--latent 1x7x8: a latent of 1 frames of 7x8"),
        (["--model", "none"], 2, "--model none is neither a file nor a known model"),
    ],
)
def test_refusals(cli: Cli, arguments: list[str], code: int, message: str) -> None:
    result = cli("bench", *arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.error


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("hello\n", 3, "is not a history of starvsr bench"),
        ('{"event": "done"}\n', 3, "is not a history of starvsr bench: it contains other results"),
        ("[]\n", 3, "is not a history of starvsr bench: it contains other results"),
        (None, 7, "h.jsonl"),
    ],
)
def test_a_history_that_cannot_be_kept_is_refused_first(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr("starvsr.bench.run.run_benchmark", lambda *_, **__: pytest.fail("begun"))
    path = tmp_path / "h.jsonl"
    if content is None:
        path = tmp_path / "no" / "h.jsonl"
    else:
        path.write_text(content)
    result = cli("bench", *QUICK, "--history", path)
    assert result.code == code
    assert message in result.error
    assert content is None or path.read_text() == content
