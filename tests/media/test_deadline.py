"""Calls that never return: a deadline ends the waiting, a stop does, and what they work with is left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import av
import pytest
from av.container import InputContainer
from PIL import Image

from starvsr.errors import InputError, UsageError
from starvsr.media import boxes, deadline, decode, source
from starvsr.media.deadline import (
    StoppedError,
    closing_unless_stuck,
    stopping_with,
    timeout_s,
    within_deadline,
)
from starvsr.media.decode import readable_packets
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.source import open_part, open_source
from tests.media.clips import Audio, Clip, make

SECONDS = 30.0
Hang = Callable[..., Any]


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    """Never returns, as long as the test runs; the deadline is short."""
    monkeypatch.setenv(deadline.VARIABLE, "0.4")
    end = threading.Event()
    before = set(threading.enumerate())

    def call(*_: object, **__: object) -> None:
        end.wait()

    yield call
    end.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS)


class File:
    """Something that can be closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_what_a_call_returns_and_raises_is_passed_on() -> None:
    def fail() -> None:
        raise OSError("gone")

    assert within_deadline("a.mp4", lambda: 7) == 7
    assert within_deadline("a.mp4", threading.current_thread) is not threading.current_thread()
    with pytest.raises(OSError, match="gone"):
        within_deadline("a.mp4", fail)


def test_a_call_that_hangs_is_an_error_that_names_the_file_and_what_to_do(hang: Hang) -> None:
    with pytest.raises(InputError, match=r"^a\.mp4 cannot be read: .* 0\.4 seconds.*INPUT_TIMEOUT"):
        within_deadline("a.mp4", hang)


def test_without_a_limit_a_call_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "DEFAULT_S", 0.2)
    monkeypatch.setenv(deadline.VARIABLE, "0")
    assert timeout_s() is None
    slow = threading.Thread(target=time.sleep, args=(0.8,))
    slow.start()
    within_deadline("a.mp4", slow.join)
    assert not slow.is_alive()
    monkeypatch.delenv(deadline.VARIABLE)
    assert timeout_s() == 0.2
    with pytest.raises(InputError):
        within_deadline("a.mp4", lambda: time.sleep(0.8))


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "a minute", "1e400", "9" * 5000])
def test_a_limit_that_is_no_number_of_seconds(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(deadline.VARIABLE, value)
    with pytest.raises(UsageError, match=deadline.VARIABLE):
        within_deadline("a.mp4", lambda: 7)


def test_what_a_thread_still_works_with_is_not_closed(hang: Hang) -> None:
    file, other = File(), File()
    with pytest.raises(InputError), closing_unless_stuck(file), closing_unless_stuck(other):
        within_deadline("a.mp4", hang, file)
    assert (file.closed, other.closed) == (False, True)


def test_what_was_left_behind_is_let_go_when_the_call_returns_at_last() -> None:
    end, stop, file = threading.Event(), threading.Event(), File()
    stop.set()
    with pytest.raises(StoppedError), stopping_with(stop):
        within_deadline("a.mp4", end.wait, file)
    assert file in deadline._stuck
    threads = [each for each in threading.enumerate() if isinstance(each, deadline._Call)]
    end.set()
    for thread in threads:
        thread.join(SECONDS)
    assert file not in deadline._stuck
    with closing_unless_stuck(file):
        pass
    assert file.closed


def test_an_interrupted_call_that_returns_soon_leaves_nothing_behind() -> None:
    stop, file = threading.Event(), File()
    stop.set()
    with pytest.raises(StoppedError), stopping_with(stop), closing_unless_stuck(file):
        within_deadline("a.mp4", lambda: time.sleep(0.2), file)
    assert file.closed


def test_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Hang) -> None:
    path = make(tmp_path / "a.mp4")
    Image.new("RGB", (8, 8)).save(tmp_path / "000001.png")
    monkeypatch.setattr(av, "open", hang)
    for each in (path, tmp_path / "%06d.png"):
        with pytest.raises(InputError, match=r"0\.4 seconds"):
            probe(each)
    with pytest.raises(InputError, match=r"0\.4 seconds"), open_part(path):
        pass


def test_looking_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Hang) -> None:
    path = make(tmp_path / "a.mp4")
    monkeypatch.setattr(Path, "exists", hang)
    with pytest.raises(InputError, match=r"0\.4 seconds"):
        probe(path)


def test_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Hang) -> None:
    path = make(tmp_path / "a.mp4", Clip(frames=12))
    info, real = probe(path), decode._stepping_over

    def stuck(container: InputContainer, *streams: Any) -> Iterator[Any]:
        for number, packet in enumerate(real(container, *streams)):
            yield packet
            if number == 4:
                hang()

    monkeypatch.setattr(decode, "_stepping_over", stuck)
    with pytest.raises(InputError, match=r"a\.mp4 cannot be read: .*0\.4 seconds"):
        build_index(info)


def test_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Hang) -> None:
    path = make(tmp_path / "a.mp4", Clip(frames=30, options={"g": "5"}))
    info = probe(path)
    index, real = build_index(info), source.open_source

    class Stuck:
        def __init__(self, container: InputContainer) -> None:
            self._container, self.seek = container, hang

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

    @contextmanager
    def opening(path: Path) -> Iterator[InputContainer]:
        with real(path) as container:
            yield cast("InputContainer", Stuck(container))

    monkeypatch.setattr("starvsr.media.hwaccel.open_source", opening)
    with pytest.raises(InputError, match=r"a\.mp4 cannot be read: .*0\.4 seconds"):
        next(read_frames(info, index, 20, 22))


def test_walking_the_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Hang) -> None:
    info = probe(make(tmp_path / "a.mp4"))
    monkeypatch.setattr(boxes, "is_cut", hang)
    with pytest.raises(InputError, match=r"0\.4 seconds"):
        build_index(info)


def test_a_slow_file_is_no_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Hang
) -> None:
    info, real = probe(make(tmp_path / "a.mp4", Clip(frames=12))), decode._stepping_over

    def slow(container: InputContainer, *streams: Any) -> Iterator[Any]:
        for packet in real(container, *streams):
            time.sleep(0.15)
            yield packet

    monkeypatch.setattr(decode, "_stepping_over", slow)
    assert build_index(info).frames == 12


@pytest.mark.parametrize("one_by_one", [True, False])
def test_packets_are_those_of_libav_in_its_order(tmp_path: Path, one_by_one: bool) -> None:
    clip = Clip(frames=700, width=32, height=32, audio=(Audio(seconds=28),))
    path = make(tmp_path / "a.mkv", clip)
    with open_source(path) as container:
        plain = [(p.stream_index, p.pts, bytes(p)) for p in container.demux() if p.size]
    assert len(plain) > 2 * decode._MOST_PACKETS
    with open_source(path) as container:
        packets = readable_packets(container, *container.streams, one_by_one=one_by_one)
        assert [(p.stream_index, p.pts, bytes(p)) for p in packets] == plain


def test_a_call_reads_few_bytes_at_once() -> None:
    class Packet:
        size = decode._MOST_BYTES // 4

    packets = iter([Packet()] * 10)
    assert len(decode._some(cast("Any", packets), 10)) == 4
    assert len(list(packets)) == 6
