"""What differs on Windows, as far as it can be simulated on another system."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import filelock
import pytest

from starvsr.errors import OutputError
from starvsr.job import processes
from starvsr.media import files, scratch
from starvsr.media.files import write_whole
from starvsr.media.removal import Right, remove_tree
from starvsr.media.scratch import scratch_folder
from starvsr.models import device

# Another system's tests would simulate Windows on Windows.
pytestmark = pytest.mark.skipif(os.name != "posix", reason="simulated on POSIX systems")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")


def windows_sync(descriptor: int) -> None:
    """FlushFileBuffers needs write access; `_commit` reports EBADF without it."""
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")


@pytest.mark.usefixtures("windows")
def test_files_are_synced_by_a_descriptor_that_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", windows_sync)
    write_whole(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
    with pytest.raises(OSError, match="directory"):
        files.sync(tmp_path)


@pytest.mark.parametrize("number", [32, 33])
def test_a_result_that_another_program_holds_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    target = tmp_path / "film.mkv"
    target.write_bytes(b"playing")

    def held(*_: object) -> NoReturn:
        error = PermissionError(errno.EACCES, "The process cannot access the file")
        error.winerror = number  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(Path, "replace", held)
    with pytest.raises(OutputError, match=r"film\.mkv cannot be written: another program has it"):
        write_whole(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mkv"]
    assert target.read_bytes() == b"playing"


def test_what_a_kill_left_goes_although_a_held_lock_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f".starvsr-{'0' * 16}"
    left.mkdir()
    (left / ".starvsr-scratch").write_bytes(b"temporary files of starvsr, version 1\n")
    (left / ".lock").touch()
    (left / "part.mkv").write_bytes(b"half")
    calls: list[Path] = []

    def windows_remove_tree(path: Path, right: Right) -> None:
        """As far as possible: a file that is open stays, and so does its folder."""
        calls.append(path)
        lock = filelock.FileLock(path / ".lock", is_singleton=False)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            for each in path.iterdir():
                if each.name != ".lock":
                    each.unlink()
        else:
            lock.release()
            remove_tree(path, right)

    monkeypatch.setattr(scratch, "_HELD_FILES_STAY", True)
    monkeypatch.setattr(scratch, "remove_tree", windows_remove_tree)
    with scratch_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert calls == [left, left, folder]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_workers_leave_ctrl_break_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has it instead of SIGHUP; another signal stands for it here."""
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR2, raising=False)
    monkeypatch.delattr(signal, "SIGHUP")
    processes._leave_endings_to_the_caller()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN


class Kernel:
    """What kernel32 answers."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes

    def GlobalMemoryStatusEx(self, reference: Any) -> int:
        status = reference._obj
        # It answers only if it is told the size of its structure, which is this.
        if status.length != 64:
            return 0
        status.physical_bytes, status.free_bytes = 2 * self.free_bytes, self.free_bytes
        return self.free_bytes > 0


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("free_bytes", [5 << 30, 0])
def test_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    kernel = SimpleNamespace(kernel32=Kernel(free_bytes))
    monkeypatch.setattr(ctypes, "windll", kernel, raising=False)
    real = Path.read_text

    def without_proc(path: Path, *arguments: Any, **named: Any) -> str:
        if path.is_relative_to("/proc") or path.is_relative_to("/sys"):
            raise FileNotFoundError(path)
        return real(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", without_proc)
    assert device.device_info("cpu").memory_bytes == free_bytes


@pytest.mark.usefixtures("windows")
def test_threads_are_asked_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is neither `os.uname` nor `os.sched_getaffinity`."""
    for name in ("uname", "sched_getaffinity"):
        monkeypatch.delattr(os, name)
    assert device._cores() == 0
    assert device.device_info("cpu").threads >= 1
