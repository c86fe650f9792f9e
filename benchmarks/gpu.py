"""STAR on a GPU: times beside the device's ceilings, memory beside the plan, distance to recorded results.

    python benchmarks/gpu.py [--pieces network memory ...] [--budget-s 480] [--results gpu.jsonl] [--device cuda]
    python benchmarks/gpu.py --dry-run

Needs no model hub: weights are seeded, of full size and made on the device. Every measurement is a line of JSON in the
file of results, and `gpu.md` beside it has them as tables. A run ends at its budget, and the same command goes on
after what is done for this card and this torch. Measurements run in a process of their own: one that fails, ends it
or takes longer than `--case-s` is recorded as failed, and the others go on (`--retry` repeats it). `--dry-run` goes
through the same code with test sizes, also on a CPU, where nothing is compiled; its times mean nothing.

Exit code: 0 all is measured, 1 something failed, 4 something is left for the next run. The card's settings are left
alone.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
# A bare machine has the sources and no installation.
for _place in (ROOT, ROOT / "src", ROOT / "benchmarks"):
    sys.path.insert(0, str(_place))

from gpu_pieces.records import add_record, finished, markdown, read_records  # noqa: E402

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
"""In the order of what is wanted first."""
EXIT_FAILED, EXIT_LEFT = 1, 4
_EXIT_BROKEN = 17
"""Of the process that measures, where an error left the device unusable: another one goes on."""
_MOST_ENDED = 20
"""Processes that may end without a result before the run gives up."""


def cases_of(piece: str, setting: Any) -> Iterator[Any]:
    """The cases of a piece; torch is loaded here."""
    from gpu_pieces import autoencoder, embedded, golden, memory, network, pipeline, video

    def compiled(setting: Any) -> Iterator[Any]:
        yield from network.compiled_cases(setting)
        yield from pipeline.compiled_cases(setting)

    found: dict[str, Callable[[Any], Iterator[Any]]] = {
        "ceilings": network.ceiling_cases,
        "golden": golden.cases,
        "network": network.cases,
        "autoencoder": autoencoder.cases,
        "pipeline": pipeline.cases,
        "memory": memory.cases,
        "embedded": embedded.cases,
        "video": video.cases,
        "cogvideox": network.cogvideox_cases,
        "compiled": compiled,
    }
    return found[piece](setting)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of a run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pieces", nargs="+", choices=PIECES, default=list(PIECES))
    parser.add_argument("--budget-s", type=float, default=480, help="end after so many seconds")
    parser.add_argument("--case-s", type=float, default=300, help="longest measurement, seconds")
    parser.add_argument("--results", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu for a dry run")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls; the median counts")
    parser.add_argument("--folder", type=Path, help="for weights and clips; a temporary one")
    parser.add_argument("--dry-run", action="store_true", help="test sizes, on the CPU by default")
    parser.add_argument("--retry", action="store_true", help="repeat what failed before")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.dry_run and "--device" not in " ".join(arguments):
        options.device = "cpu"
    if options.device == "cpu" and not options.dry_run:
        parser.error("--device cpu needs --dry-run: full sizes take hours on a CPU")
    return options


def measure(options: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> int:
    """In the process that measures: run every case that is not done and report what comes of it."""
    import torch
    from gpu_pieces.setting import Setting, described_machine

    if options.device != "cpu" and not torch.cuda.is_available():
        report(
            {"fatal": f"--device {options.device}: torch {torch.__version__} finds no CUDA device"}
        )
        return 2
    device = torch.device(options.device)
    if device.type == "cuda":
        # Some of torch's functions want a number.
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    torch.set_grad_enabled(False)
    setting = Setting(device, options.dry_run, options.folder, options.repeats)
    machine = described_machine(setting)
    done = finished(read_records(options.results), machine, failed=not options.retry)
    if options.retry:
        # What this run itself has tried is not tried again.
        done |= {tuple(each) for each in json.loads(os.environ.get("GPU_TRIED", "[]"))}
    cases = [(piece, case) for piece in options.pieces for case in cases_of(piece, setting)]
    todo = [(piece, case) for piece, case in cases if (piece, case.name) not in done]
    report({"machine": machine, "all": len(cases), "todo": len(todo)})
    for piece, case in todo:
        report({"begin": [piece, case.name]})
        began = time.perf_counter()
        came: dict[str, Any]
        try:
            came = {"result": dict(case.run())}
        # A measurement may fail in any way, and the others go on.
        except Exception as error:
            setting.kept.clear()
            came = {"error": _described(error)}
        report({**came, "took_s": round(time.perf_counter() - began, 2)})
        if "error" in came and is_broken(came["error"]["message"]):
            return _EXIT_BROKEN
    return 0


def is_broken(message: str) -> bool:
    """Whether an error is of the kind after which every call on the device fails."""
    words = message.lower()
    return "cuda" in words and "error" in words and "out of memory" not in words


def _described(error: Exception) -> dict[str, str]:
    text = str(error).strip().split("\n")[0]
    return {
        "message": f"{type(error).__name__}: {text}"[:500],
        "traceback": traceback.format_exc()[-4000:],
    }


@dataclass
class Run:
    """The process that starts others, watches them, and writes what they report."""

    options: argparse.Namespace
    arguments: list[str]
    script: Path = Path(__file__)
    """What the process that measures runs; it gets `--child`."""
    began: float = field(default_factory=time.monotonic)
    machine: dict[str, str] = field(default_factory=dict)
    todo: int = 0
    tried: list[list[str]] = field(default_factory=list)
    failed: int = 0

    def finish(self) -> int:
        """Until everything is measured or the budget is spent; the exit code."""
        ended = 0
        while True:
            before = len(self.tried)
            code = self._one_process()
            if code in (0, None):
                break
            if code == 2 and not self.machine:
                return 2
            ended = ended + 1 if len(self.tried) == before else 0
            if ended > _MOST_ENDED or (ended and not self.machine):
                print(f"the process that measures ends with {code} and no result", file=sys.stderr)
                return EXIT_FAILED
        left = max(0, self.todo - len(self.tried))
        if left:
            print(f"{left} measurements are left: run the same command again")
            return EXIT_LEFT
        return EXIT_FAILED if self.failed else 0

    def _one_process(self) -> int | None:
        """Its exit code, None where the budget ended it; a case that was cut short is recorded."""
        environment = {**os.environ, "GPU_TRIED": json.dumps(self.tried)}
        command = [sys.executable, str(self.script), *self.arguments]
        command += ["--child", "--folder", str(self.options.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout is not None
            lines: queue.Queue[str | None] = queue.Queue()
            threading.Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
            try:
                return self._watch(child, lines)
            finally:
                child.kill()

    def _watch(self, child: subprocess.Popen[str], lines: queue.Queue[str | None]) -> int | None:
        end = self.began + self.options.budget_s
        now: list[str] | None = None
        since = time.monotonic()
        while True:
            case_end = since + self.options.case_s if now else end
            try:
                line = lines.get(timeout=max(0.01, min(end, case_end) - time.monotonic()))
            except queue.Empty:
                took = time.monotonic() - since
                if time.monotonic() < end or (now and took > 0.8 * self.options.budget_s):
                    assert now is not None
                    message = f"it was ended after {took:.0f} s"
                    self._write(now, {"error": {"message": message}, "took_s": took})
                    return None if time.monotonic() >= end else -1
                return None
            if line is None:
                code = child.wait()
                if now is not None:
                    message = f"the process that measured it ended with {code}"
                    self._write(now, {"error": {"message": message}})
                return code
            said = json.loads(line)
            if "fatal" in said:
                print(said["fatal"], file=sys.stderr)
            elif "machine" in said:
                self.machine = said["machine"]
                self.todo = self.todo or said["todo"]
            elif "begin" in said:
                now, since = said["begin"], time.monotonic()
            elif now is not None:
                self._write(now, said)
                now = None

    def _write(self, now: list[str], said: dict[str, Any]) -> None:
        piece, case = now
        self.tried.append(now)
        self.failed += "error" in said
        command = " ".join(["python benchmarks/gpu.py", *self.arguments])
        record = {"machine": self.machine, "command": command, "piece": piece, "case": case}
        add_record(self.options.results, {**record, **said})
        outcome = said["error"]["message"] if "error" in said else json.dumps(said["result"])
        print(f"{piece}: {case}: {outcome[:300]}", flush=True)


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def report_on(channel: IO[str]) -> Callable[[dict[str, Any]], None]:
    """What writes messages to the process that watches."""

    def report(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    return report


def main(arguments: list[str]) -> int:
    """Measure, or watch what measures."""
    options = parse(arguments)
    if options.child:
        # What libraries print is not for the one that watches.
        channel = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        return measure(options, report_on(channel))
    made = None
    if options.folder is None:
        made = options.folder = Path(tempfile.mkdtemp(prefix="gpu-"))
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        code = Run(options, arguments).finish()
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
    records = read_records(options.results)
    if records:
        table = options.results.with_suffix(".md")
        table.write_text(markdown(records))
        print(f"results: {options.results}, as tables: {table}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
