"""The queue: its order, what it hears of its processes, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starvsr.errors import UsageError
from starvsr.ui.jobs import PROGRAM, Queue, Task
from tests.cli.conftest import Cli, cli
from tests.media.clips import Clip, make

__all__ = ["cli"]

PATIENCE_S = 120.0

# Stands for starvsr: says what it was given, and goes on until it is told to end, or at once.
PROGRAM_OF_THE_TEST = """
import json, signal, sys, time
name, target, how = sys.argv[1:4]
assert sys.argv[-3:] == ["--progress", "json", "--json"]
progress = {"event": "progress", "stage": "restore", "done": 1, "total": 4}
print(json.dumps(progress), file=sys.stderr, flush=True)
print("note: " + name, file=sys.stderr, flush=True)
if how == "fail":
    print("error: no space left", file=sys.stderr)
    sys.exit(7)
if how == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("note: ready", file=sys.stderr, flush=True)
    time.sleep(60)
print(json.dumps({"event": "done", "target": target}))
"""


def until(found: Callable[[], object]) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < end
        time.sleep(0.02)


def task(name: str, how: str = "run") -> Task:
    return Task((name, f"/{name}.mkv", how), Path(f"/{name}.mkv"))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with Queue(tmp_path / "kept.json", (sys.executable, "-c", PROGRAM_OF_THE_TEST)) as queue:
        yield queue


def test_tasks_run_one_after_another_and_previews_first(queue: Queue) -> None:
    first = queue.add(task("first", "wait"))
    until(lambda: "note: ready" in first.lines)
    second, third = queue.add(task("second")), queue.add(task("third"))
    preview = queue.add(task("preview"), first=True)
    assert [each.state for each in queue.tasks] == ["running", "waiting", "waiting", "waiting"]
    assert queue.tasks == [first, preview, second, third]
    queue.stop(third)
    queue.stop(first)
    until(lambda: second.state == "done")
    assert [each.state for each in queue.tasks] == ["stopped", "done", "done", "stopped"]
    assert second.result == {"event": "done", "target": "/second.mkv"}
    assert second.progress["done"] == 1
    assert list(second.lines) == ["note: second"]


def test_two_browsers_start_one_job(queue: Queue) -> None:
    job = queue.add(task("job", "wait"))
    with pytest.raises(UsageError, match=r"/job\.mkv is in the queue already"):
        queue.add(task("job"))
    with pytest.raises(UsageError, match="is in the queue already"):
        queue.add(job)
    queue.remove(job)
    assert queue.tasks == [job]
    until(lambda: "note: ready" in job.lines)
    queue.stop(job)
    until(lambda: job.state == "stopped")
    queue.remove(job)
    assert queue.tasks == []


def test_the_error_is_that_of_the_command(queue: Queue) -> None:
    job = queue.add(task("job", "fail"))
    until(lambda: job.state == "failed")
    assert job.error == "no space left"


def test_what_it_says_is_read_in_any_encoding_of_the_system(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    job = queue.add(task("Füße"))
    until(lambda: job.state == "done")
    assert list(job.lines) == ["note: Füße"]


def test_a_command_that_no_system_can_run_does_not_end_the_queue(queue: Queue) -> None:
    job = queue.add(Task(("a\0b",), Path("/a.mkv")))
    until(lambda: job.state == "failed")
    assert "null byte" in job.error
    after = queue.add(task("after"))
    until(lambda: after.state == "done")


def test_without_its_program_a_task_fails(tmp_path: Path) -> None:
    with Queue(tmp_path / "kept.json", (str(tmp_path / "none"),)) as queue:
        job = queue.add(task("job"))
        until(lambda: job.state == "failed")
        assert "cannot be run" in job.error


def test_what_was_not_finished_is_there_after_a_restart(tmp_path: Path) -> None:
    kept, words = tmp_path / "kept.json", ("upscale", "/in.mp4", "wait")
    with Queue(kept, (sys.executable, "-c", PROGRAM_OF_THE_TEST)) as queue:
        running = queue.add(Task(words, Path("/a.mkv")))
        queue.add(Task(words, Path("/b.mkv")))
        queue.add(Task(words, Path("/preview.mp4"), "a preview"))
        until(lambda: running.state == "running")
    assert running.state == "stopped"
    again = Queue(kept)
    found = [(each.arguments, str(each.target), each.state) for each in again.tasks]
    assert found == [(words, "/a.mkv", "stopped"), (words, "/b.mkv", "stopped")]


def test_pages_side_by_side_do_not_lose_each_others_jobs(tmp_path: Path) -> None:
    kept, words = tmp_path / "kept.json", ("upscale", "/in.mp4", "wait")
    one, other = Queue(kept), Queue(kept)
    a, b, c = (Task(words, Path(f"/{name}.mkv")) for name in "abc")
    one.add(a)
    other.add(b)
    one.add(c)
    other.stop(b)
    other.remove(b)
    assert sorted(str(each.target) for each in Queue(kept).tasks) == ["/a.mkv", "/c.mkv"]


def test_what_another_page_has_finished_does_not_come_back(tmp_path: Path) -> None:
    kept, words = tmp_path / "kept.json", ("upscale", "/in.mp4", "wait")
    x, again, b, c = (Task(words, Path(f"/{name}.mkv")) for name in "xxbc")
    one = Queue(kept)
    one.add(x)
    other = Queue(kept)
    assert [str(each.target) for each in other.tasks] == ["/x.mkv"]
    one.stop(x)
    one.remove(x)
    other.add(b)
    assert [str(each.target) for each in Queue(kept).tasks] == ["/b.mkv"]
    # Begun anew by the other, it is the other's.
    other.add(again)
    one.add(c)
    found = sorted(str(each.target) for each in Queue(kept).tasks)
    assert found == ["/b.mkv", "/c.mkv", "/x.mkv"]


def test_what_was_begun_elsewhere_stays_kept_and_is_not_shown(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    outside = [["upscale", "/in.mp4", "/secret/a.mkv"], "/secret/a.mkv"]
    inside = [["upscale", "/in.mp4", "/b.mkv"], "/b.mkv"]
    kept.write_text(json.dumps([outside, inside]))
    queue = Queue(kept, holds=lambda path: not path.startswith("/secret"))
    assert [str(each.target) for each in queue.tasks] == ["/b.mkv"]
    queue.remove(queue.tasks[0])
    assert json.loads(kept.read_text()) == [outside]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "{}",
        '[["train"], "x"]',
        '[[["train", "a"], "/x"]]',
        '[[["upscale", 1], "/x"]]',
        "[1]",
    ],
)
def test_a_damaged_record_is_no_queue(tmp_path: Path, text: str) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(text)
    assert Queue(kept).tasks == []


@pytest.fixture
def real(tmp_path: Path, toy_path: Path) -> Task:
    """An `upscale` of several segments by a model that takes no time."""
    clip = make(tmp_path / "in.mp4", Clip(frames=30, width=32, height=24))
    target = tmp_path / "out.mkv"
    how = ("--model", str(toy_path), "--scale", "1", "--steps", "1", "--segment-frames", "6")
    return Task(("upscale", str(clip), str(target), *how, "--codec", "ffv1"), target)


def test_a_stopped_job_is_resumed_by_the_command_line(real: Task, tmp_path: Path, cli: Cli) -> None:
    with Queue(tmp_path / "kept.json") as queue:
        queue.add(real)
        # The first is recorded before the second is there.
        until(lambda: len(list(real.work_dir.glob("*-core.*"))) > 1)
        queue.stop(real)
        until(lambda: not real.is_active)
    assert real.state == "stopped"
    assert not real.target.exists()
    resumed = cli(*real.arguments)
    assert resumed.code == 0
    assert "resuming: " in resumed.err
    assert real.target.exists()
    assert not real.work_dir.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no ulimit")
def test_a_full_disk_ends_a_job_with_the_sentence_of_the_command(
    real: Task, tmp_path: Path
) -> None:
    limited = ("bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *PROGRAM)
    with Queue(tmp_path / "kept.json", limited) as queue:
        queue.add(real)
        until(lambda: not real.is_active)
    assert real.state == "failed"
    assert str(real.target) in real.error
    assert "cannot be written" in real.error
    assert not real.target.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot kill like this")
def test_a_killed_page_loses_nothing(real: Task, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from starvsr.ui.jobs import Queue, Task\n"
        "with Queue(Path(sys.argv[1])) as queue:\n"
        "    queue.add(Task(tuple(sys.argv[3:]), Path(sys.argv[2])))\n"
        "    time.sleep(600)\n"
    )
    kept = tmp_path / "kept.json"
    command = [sys.executable, "-c", script, str(kept), str(real.target), *real.arguments]
    with subprocess.Popen(command) as page:
        until(lambda: list(real.work_dir.glob("*-core.*")))
        page.send_signal(signal.SIGKILL)
    with Queue(kept) as queue:
        (again,) = queue.tasks
        assert (again.arguments, again.state) == (real.arguments, "stopped")
        queue.add(again)
        until(lambda: not again.is_active)
        # Nobody hears of the process that goes on, but it is not disturbed, and finishes.
        assert again.state == "failed"
        assert "another process works in" in again.error or "exists" in again.error
        until(real.target.exists)
        until(lambda: not real.work_dir.exists())
