"""`benchmarks/gpu.py` and what it carries: every piece at test sizes, and how a run is watched and resumed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch

from tests.golden.seeded_init import seeded_parameter
from tests.zoo.published import SMALL_STAR

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"

pytestmark = pytest.mark.usefixtures("one_thread")


def script(name: str) -> ModuleType:
    """A script of `benchmarks/`, as it is started: with its folder first among the places of modules."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gpu() -> Any:
    before = list(sys.path)
    yield script("gpu")
    sys.path[:] = before


@pytest.fixture(scope="module")
def setting(gpu: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = importlib.import_module("gpu_pieces.setting")
    return made.Setting(torch.device("cpu"), True, tmp_path_factory.mktemp("gpu"), repeats=1)


PIECES = (
    "ceilings",
    "golden",
    "network",
    "autoencoder",
    "pipeline",
    "memory",
    "embedded",
    "video",
    "cogvideox",
    "compiled",
)


def test_these_are_all_pieces(gpu: Any) -> None:
    assert gpu.PIECES == PIECES


@pytest.mark.slow
# The golden runs on the CPU are tests of the networks themselves.
@pytest.mark.parametrize("piece", [piece for piece in PIECES if piece != "golden"])
def test_every_measurement_of_a_piece_has_a_result(gpu: Any, setting: Any, piece: str) -> None:
    results = {case.name: dict(case.run()) for case in gpu.cases_of(piece, setting)}
    assert len(results) >= 3
    assert all(json.loads(json.dumps(result)) for result in results.values())
    if piece == "golden":
        errors = results["small fp32 sdpa"]
        assert max(errors.values()) < 1e-5
        assert 1e-4 < min(results["small fp16 sdpa"].values()) < 1e-2
    if piece == "pipeline":
        assert all(result["frames"] == 5 for result in results.values())
        assert {result["offload"] for result in results.values()} == {"none", "model", "block"}
    if piece == "memory":
        assert results["running out of memory"]["smaller"]
        offloads = {result.get("offload") for result in results.values()}
        assert {"does not fit", "none", "model"} <= offloads
    if piece == "embedded":
        assert results["difference to the CPU nano fp32"]["largest"] == 0


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("a.weight", (7, 5, 3, 3)),
        ("a.norm.weight", (33,)),
        ("a.bias", (33,)),
        ("block.local1.conv.weight", (1, 2, 7, 7)),
    ],
)
def test_weights_of_golden_runs_are_the_same_to_the_bit(
    gpu: Any, key: str, shape: tuple[int, ...]
) -> None:
    weights = importlib.import_module("gpu_pieces.weights")
    made = weights.golden_parameter(key, shape, torch.device("cpu"))
    assert torch.equal(made, seeded_parameter(key, shape))


def test_drawn_weights_do_not_depend_on_the_order(gpu: Any) -> None:
    weights, cpu = importlib.import_module("gpu_pieces.weights"), torch.device("cpu")
    first = weights.drawn("a", (4, 3), cpu, torch.float16)
    weights.drawn("b", (4, 3), cpu, torch.float16)
    assert torch.equal(first, weights.drawn("a", (4, 3), cpu, torch.float16))


FAKE = """
import json, sys, time
from pathlib import Path
results = Path(sys.argv[sys.argv.index("--results") + 1])
done = [json.loads(line)["case"] for line in results.read_text().splitlines()] if results.exists() else []
todo = [case for case in ("good", "ends", "hangs", "fails", "last") if case not in done]
say = lambda **message: print(json.dumps(message), flush=True)
say(machine={"card": "a card", "torch": "1", "sizes": "test"}, all=5, todo=len(todo))
for case in todo:
    say(begin=["piece", case])
    if case == "ends":
        sys.exit(9)
    if case == "hangs":
        time.sleep(60)
    if case == "fails":
        say(error={"message": "RuntimeError: CUDA error: an illegal memory access"}, took_s=0.1)
        sys.exit(17)
    say(result={"seconds": 1.5}, took_s=0.1)
"""


def watched(gpu: Any, folder: Path, *arguments: str) -> Any:
    fake, results = folder / "fake.py", folder / "gpu.jsonl"
    fake.write_text(FAKE)
    given = ["--results", str(results), "--folder", str(folder), *arguments]
    return gpu.Run(gpu.parse(given), given, script=fake)


def test_what_fails_ends_or_hangs_is_recorded_and_the_rest_is_measured(
    gpu: Any, tmp_path: Path
) -> None:
    run = watched(gpu, tmp_path, "--case-s", "4")
    assert run.finish() == gpu.EXIT_FAILED
    records = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert [record["case"] for record in records] == ["good", "ends", "hangs", "fails", "last"]
    messages = [record["error"]["message"] for record in records if "error" in record]
    assert messages[0] == "the process that measured it ended with 9"
    assert messages[1].startswith("it was ended after ")
    assert "illegal memory access" in messages[2]
    assert records[-1]["result"] == {"seconds": 1.5}
    assert watched(gpu, tmp_path).finish() == 0


def test_a_run_ends_at_its_budget_and_the_next_one_goes_on(
    gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gpu.jsonl").write_text(json.dumps({"case": "ends"}) + "\n")
    began = watched(gpu, tmp_path, "--case-s", "100", "--budget-s", "100")
    began.began -= 96
    assert began.finish() == gpu.EXIT_LEFT
    assert capsys.readouterr().out.endswith("measurements are left: run the same command again\n")
    cases = [json.loads(line)["case"] for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert cases == ["ends", "good"]


def record(case: str, **more: Any) -> dict[str, Any]:
    machine = {"card": "a card", "torch": "1", "sizes": "full", "driver": "2"}
    return {"machine": machine, "command": "python", "piece": "network", "case": case, **more}


def test_what_is_done_on_the_same_card_and_torch_is_not_repeated(gpu: Any, tmp_path: Path) -> None:
    records = importlib.import_module("gpu_pieces.records")
    path = tmp_path / "new" / "gpu.jsonl"
    good, bad = record("a", result={}), record("b", error={"message": "no"})
    for each in (good, bad):
        records.add_record(path, each)
    with path.open("a") as file:
        file.write('{"a run that was kil')
    records.add_record(path, record("c", result={}))
    found = records.read_records(path)
    assert [each["case"] for each in found] == ["a", "b", "c"]
    machine = {**good["machine"], "driver": "3"}
    assert records.finished(found, machine, failed=True) == {("network", each) for each in "abc"}
    assert records.finished(found, machine, failed=False) == {("network", each) for each in "ac"}
    assert records.finished(found, {**machine, "torch": "2"}, failed=True) == set()


def test_tables_have_a_row_for_each_case_and_say_what_failed(gpu: Any) -> None:
    records = importlib.import_module("gpu_pieces.records")
    text = records.markdown(
        [
            record("a", error={"message": "repeated later"}),
            record("a", result={"seconds": 0.123456, "call_bytes": 1 << 30, "fits": True}),
            record("b", result={"seconds": 2.0, "parts": {"network": 1.5}}),
            record("c", result={"kernels": [{"name": "conv", "share": 0.5}]}),
            record("d", error={"message": "RuntimeError: no"}),
        ]
    )
    assert "card a card; torch 1; sizes full; driver 2" in text
    assert "| case | seconds | call, GiB | fits |" in text
    assert "| a | 0.1235 | 1.000 | yes |" in text
    assert "| b | 2 |  |  |" in text
    assert "b, parts:\n\nnetwork 1.5" in text
    assert "| conv | 0.5 |" in text
    assert "d failed: RuntimeError: no" in text
    assert "repeated later" not in text
    assert "| c |" not in text


def test_a_full_run_on_a_cpu_is_refused(gpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.parse(["--device", "cpu"])
    assert "--device cpu needs --dry-run" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_it_says_so(tmp_path: Path) -> None:
    call = [sys.executable, str(BENCHMARKS / "gpu.py"), "--results", str(tmp_path / "gpu.jsonl")]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("finds no CUDA device")
    assert not (tmp_path / "gpu.jsonl").exists()


def test_names_of_requirements_and_wheels() -> None:
    carry = script("carry")
    for text in (
        "typing-extensions",
        "typing_extensions>=4",
        "typing_extensions-4.1-py3-none-any.whl",
    ):
        assert carry.name_of(text) == "typing-extensions"
    assert carry.name_of("huggingface_hub>=1.3,<3") == "huggingface-hub"
    assert carry.name_of("av>=18.1,<19") == "av"
    assert carry.name_of("xformers>=0.0.34; (sys_platform == 'linux')") == "xformers"
    assert (
        carry.name_of("pydantic_core-2.50.5-cp312-cp312-manylinux2014_x86_64.whl")
        == "pydantic-core"
    )


def test_torch_and_what_the_machine_has_are_not_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry = script("carry")
    asked: list[str] = []

    def download(command: list[str]) -> subprocess.CompletedProcess[str]:
        asked.extend(command)
        folder = Path(command[command.index("--dest") + 1])
        for name in ("av-18.1.0-cp311", "numpy-2.4.0-cp312", "rich-15.0-py3"):
            (folder / f"{name}-none-any.whl").write_bytes(b"123")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(carry.subprocess, "run", download)
    wheels = carry.fill(tmp_path, "3.12", ["Rich"])
    assert [wheel.name for wheel in wheels] == ["av-18.1.0-cp311-none-any.whl"]
    assert list(tmp_path.iterdir()) == wheels
    names = {carry.name_of(each) for each in asked[asked.index("--dest") + 2 :]}
    assert {"av", "diffusers", "einops", "pytest"} <= names
    assert not names & {"torch", "xformers", "transformers", "numpy", "rich"}


@pytest.fixture
def fake_card() -> Iterator[dict[str, Any]]:
    """What is asked of torch.cuda, with its own names and signatures; there is no card."""
    answers = {
        "synchronize": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 100,
        "memory_reserved": 300,
        "max_memory_allocated": 150,
        "max_memory_reserved": 400,
        "mem_get_info": (200, 1000),
        "set_per_process_memory_fraction": None,
        "get_device_name": "a card",
    }
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                patch.object(torch.cuda, name, autospec=True, return_value=answer)
            )
            for name, answer in answers.items()
        }


def test_a_cards_memory_is_read_where_torch_has_it(
    gpu: Any, fake_card: dict[str, Any], tmp_path: Path
) -> None:
    made, memory = (importlib.import_module(f"gpu_pieces.{name}") for name in ("setting", "memory"))
    setting = made.Setting(torch.device("cuda", 0), True, tmp_path)
    with made.Peaks(setting) as peaks:
        pass
    assert peaks.described() == {
        "allocated_bytes": 150,
        "reserved_bytes": 400,
        "call_bytes": 50,
    }
    # Of 1000 bytes 800 are in use, 300 of them by torch.
    assert memory._outside_torch(setting) == 500
    with memory.scarce(setting, torch.nn.Identity(), 300):
        pass
    shares = [call.args[0] for call in fake_card["set_per_process_memory_fraction"].mock_calls]
    assert shares == [0.2, 1.0]
    assert made.described_machine(setting)["card"] == "a card"


def test_a_cards_time_is_that_of_its_events(
    gpu: Any, fake_card: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, did = importlib.import_module("gpu_pieces.setting"), []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            did.append("record")

        def synchronize(self) -> None:
            did.append("wait")

        def elapsed_time(self, last: Event) -> float:
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    setting = made.Setting(torch.device("cuda", 0), True, tmp_path, repeats=1)
    _, seconds = made.timed(setting, lambda: did.append("call"))
    assert seconds == 0.25
    assert did == ["call", "record", "call", "record", "wait"]


@pytest.mark.parametrize(
    ("message", "broken"),
    [
        ("AcceleratorError: CUDA error: an illegal memory access was encountered", True),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", False),
        ("UsageError: the network of star-light overflows fp16 on this video", False),
    ],
)
def test_which_errors_leave_a_device_unusable(gpu: Any, message: str, broken: bool) -> None:
    assert gpu.is_broken(message) is broken


def test_flops_of_many_frames_follow_from_those_of_few(gpu: Any) -> None:
    calls = importlib.import_module("gpu_pieces.calls")
    window = (9, 8, 8)
    assert calls.flops_of(SMALL_STAR.network, window, 77) == calls._counted(
        SMALL_STAR.network, window, 77
    )
