"""No encoder takes the machine from everything else."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starvsr.media.encoder import check_encoder
from starvsr.media.priority import usual_priority
from starvsr.media.probe import probe
from starvsr.media.writer import PartWriter
from starvsr.options import EncodeOptions
from tests.media.clips import make, picture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="schedulers of Linux")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """May give threads real-time priority, and gives it back."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pytest.skip("no right to real-time priority")
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    yield
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))


def policies() -> set[int]:
    return {os.sched_getscheduler(int(thread.name)) for thread in Path("/proc/self/task").iterdir()}


def beside(what: Callable[[], None]) -> None:
    """Run in another thread."""
    thread = threading.Thread(target=what)
    thread.start()
    thread.join()


def test_threads_that_came_real_time_are_not() -> None:
    ended, seen = threading.Event(), []

    def live() -> None:
        ended.wait()

    with usual_priority():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        thread = threading.Thread(target=live)
        thread.start()
        seen.append(policies())
    seen.append(policies())
    ended.set()
    thread.join()
    assert os.SCHED_FIFO in seen[0]
    assert seen[1] == {os.SCHED_OTHER}


def test_who_chose_real_time_keeps_it() -> None:
    seen = []

    def run() -> None:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        with usual_priority():
            pass
        seen.append((os.sched_getscheduler(0), os.sched_getparam(0).sched_priority))

    beside(run)
    assert seen == [(os.SCHED_FIFO, 1)]


def test_av1_is_encoded_at_the_usual_priority(tmp_path: Path) -> None:
    info = probe(make(tmp_path / "source.mp4"))
    options = EncodeOptions(codec="libsvtav1", preset="8", crf=40)
    settings = check_encoder(options, Path("out.mkv"), info, 64, 64)
    assert policies() == {os.SCHED_OTHER}
    with PartWriter(tmp_path / "part.mkv", settings, info, 64, 64) as writer:
        for number in range(3):
            writer.write(picture(number, 64, 64).astype("uint16") * 257, number, 1)
            assert policies() == {os.SCHED_OTHER}
    assert policies() == {os.SCHED_OTHER}
