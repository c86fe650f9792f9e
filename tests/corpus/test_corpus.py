"""The comparison finds each kind of fault, and the driver keeps, judges and counts what it finds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.corpus import cases, ffprobe
from tests.corpus.__main__ import main, report
from tests.corpus.accepted import ACCEPTED, reason_for
from tests.corpus.cases import Record, run_file
from tests.corpus.compare import differences
from tests.corpus.difference import Difference
from tests.corpus.ffprobe import Facts, FfprobeError, Frame, Packet
from tests.corpus.stills import still_differences
from tests.fuzz.worker import Outcome

_PATHS = (Path("in.mkv"), Path("out.mkv"))
_STEP = Fraction(1, 25)
_SHOWN = {
    "pix_fmt": "yuv420p",
    "color_space": "bt709",
    "chroma_location": "left",
    "interlaced_frame": 0,
}


def _stream(index: int, kind: str, **more: object) -> dict[str, Any]:
    return {
        "index": index,
        "codec_type": kind,
        "codec_name": {"video": "h264", "audio": "aac"}.get(kind, "bin"),
        "time_base": "1/1000",
        "extradata_size": 5,
        "disposition": {"default": 1},
        "tags": {"language": "ita"},
        **more,
    }


def _file(side: int, *, frames: int = 4) -> Facts:
    """A film of square frames with sound, as ffprobe sees it."""
    video = _stream(0, "video", pix_fmt="yuv420p", avg_frame_rate="25/1", r_frame_rate="25/1")
    shown = {**_SHOWN, "width": side, "height": side}
    return Facts(
        format={"format_name": "matroska,webm", "tags": {"title": "A film", "ENCODER": "Lavf"}},
        streams=[video, _stream(1, "audio", sample_rate="48000", channels=2)],
        packets={
            0: [Packet(n * _STEP, _STEP, 9, f"v{n}") for n in range(frames)],
            1: [Packet(n * _STEP, _STEP, 9, f"a{n}") for n in range(frames)],
        },
        film=0,
        frames=[Frame(n * _STEP, shown) for n in range(frames)],
    )


def _shown(facts: Facts, **changes: object) -> Facts:
    frames = [replace(frame, facts={**frame.facts, **changes}) for frame in facts.frames]
    return replace(facts, frames=frames)


def _said(facts: Facts, index: int, **changes: object) -> Facts:
    streams = [{**s, **changes} if s["index"] == index else s for s in facts.streams]
    return replace(facts, streams=streams)


def _moved(facts: Facts, index: int, seconds: Fraction) -> Facts:
    packets = [
        replace(packet, time=(packet.time or 0) + seconds) for packet in facts.packets[index]
    ]
    return replace(facts, packets={**facts.packets, index: packets})


def _late(facts: Facts, number: int) -> Facts:
    frames = list(facts.frames)
    frames[number] = replace(frames[number], time=(frames[number].time or 0) + Fraction(1, 100))
    return replace(facts, frames=frames)


def _found(source: Facts, output: Facts) -> list[str]:
    return [each.field for each in differences(source, output, _PATHS, 32)]


def test_a_file_that_keeps_everything_differs_in_nothing() -> None:
    assert _found(_file(64), _file(32)) == []


Change = Callable[[Facts], Facts]
_OUTPUTS: Mapping[str, Change] = {
    "frames": lambda f: replace(f, frames=f.frames[:-1]),
    "frame times": lambda f: _late(f, 2),
    "last frame's duration": lambda f: replace(
        f,
        packets={**f.packets, 0: [*f.packets[0][:-1], replace(f.packets[0][-1], duration=None)]},
    ),
    "average rate": lambda f: _said(f, 0, avg_frame_rate="1000/1"),
    "finest rate": lambda f: _said(f, 0, r_frame_rate="60000/1"),
    "size": lambda f: _shown(f, width=48),
    "sample aspect": lambda f: _said(f, 0, sample_aspect_ratio="4:3"),
    "rotation": lambda f: _said(f, 0, side_data_list=[{"side_data_type": "Display Matrix", "rotation": -90}]),
    "color_space": lambda f: _shown(f, color_space="bt2020nc"),
    "interlaced": lambda f: _shown(f, interlaced_frame=1),
    "pixel format": lambda f: _shown(f, pix_fmt="yuv444p"),
    "packets of audio stream 1": lambda f: replace(
        f, packets={**f.packets, 1: f.packets[1][:2]}
    ),
    "packet times of audio stream 1": lambda f: _moved(f, 1, Fraction(1, 20)),
    "codec of audio stream 1": lambda f: _said(f, 1, codec_name="opus"),
    "channels of audio stream 1": lambda f: _said(f, 1, channels=1),
    "disposition of audio stream 1": lambda f: _said(f, 1, disposition={"default": 1, "dub": 1}),
    "audio stream 1": lambda f: replace(f, streams=f.streams[:1]),
    "language of film": lambda f: _said(f, 0, tags={}),
    "tag title of file": lambda f: replace(f, format={**f.format, "tags": {}}),
    "output is read without errors": lambda f: replace(f, errors="non monotonic"),
}  # fmt: skip


@pytest.mark.parametrize("field", _OUTPUTS)
def test_what_an_output_gets_wrong_is_found(field: str) -> None:
    assert _found(_file(64), _OUTPUTS[field](_file(32))) == [field]


_SOURCES: Mapping[str, Change] = {
    "first frame": lambda f: _moved_film(f, Fraction(1, 2)),
    "side data Spherical Mapping": lambda f: _said(
        f, 0, side_data_list=[{"side_data_type": "Spherical Mapping"}]
    ),
    "video stream 2": lambda f: _with(f, _stream(2, "video")),
    "cover stream 2": lambda f: _with(f, _stream(2, "video", disposition={"attached_pic": 1})),
    "data stream 2": lambda f: _with(f, _stream(2, "data")),
    "chapters": lambda f: replace(f, chapters=[{"start_time": "0", "end_time": "1"}]),
    "size or aspect within the film": lambda f: replace(
        f, frames=[*f.frames[:-1], replace(f.frames[-1], facts={**f.frames[-1].facts, "width": 60})]
    ),
}  # fmt: skip


def _with(facts: Facts, stream: dict[str, Any]) -> Facts:
    packets = {**facts.packets, stream["index"]: ()}
    return replace(facts, streams=[*facts.streams, stream], packets=packets)


def _moved_film(facts: Facts, seconds: Fraction) -> Facts:
    frames = [replace(frame, time=(frame.time or 0) + seconds) for frame in facts.frames]
    return _moved(replace(facts, frames=frames), 1, seconds)


@pytest.mark.parametrize("field", _SOURCES)
def test_what_only_the_source_has_is_found(field: str) -> None:
    assert _found(_SOURCES[field](_file(64)), _file(32)) == [field]


def test_a_wild_rate_does_not_end_the_film_early() -> None:
    source = _file(64)
    last = replace(source.packets[0][-1], duration=Fraction(1, 1000))
    packets = {**source.packets, 0: [*source.packets[0][:-1], last]}
    assert _found(replace(source, packets=packets), _file(32)) == []


@pytest.mark.parametrize(
    "line",
    [
        "video stream 2 is left out",
        "streams 1 and 2 are left out",
        "video stream 0 is restored, 1 (av1 8x8) and 2 (av1 8x8) are left out",
    ],
)
def test_a_stream_is_told_of_by_its_number(line: str) -> None:
    (lost,) = differences(_with(_file(64), _stream(2, "video")), _file(32), _PATHS, 32)
    assert cases._is_told(lost, [line])
    assert not cases._is_told(lost, [line.replace("2", "3")])


def test_a_broadcast_begins_at_any_time() -> None:
    source = _moved_film(_file(64), Fraction(1000))
    assert _found(replace(source, format={"format_name": "mpegts"}), _file(32)) == []


def test_a_rotated_frame_is_compared_upright() -> None:
    matrix = {"side_data_type": "Display Matrix", "rotation": 90}
    turned = _said(_file(64), 0, side_data_list=[matrix], sample_aspect_ratio="4:3")
    output = _said(_file(32), 0, sample_aspect_ratio="3:4")
    assert _found(_shown(turned, width=96), _shown(output, height=48)) == []


def test_bare_streams_have_the_times_of_their_rate() -> None:
    source = _late(_file(64), 2)
    bare = replace(source, format={**source.format, "format_name": "m4v"})
    assert _found(_said(bare, 0, r_frame_rate="25/1"), _file(32)) == []
    assert _found(_said(bare, 0, r_frame_rate="50/1"), _file(32)) == ["frame times"]
    assert _found(_said(bare, 0, r_frame_rate="1000/1"), _file(32)) == []


def test_frames_of_one_time_are_shown_one_after_the_other() -> None:
    source, output = _file(64), _file(32)
    same = [replace(f, time=_STEP if n == 2 else f.time) for n, f in enumerate(source.frames)]
    between = [
        replace(f, time=_STEP * 3 / 2 if n == 2 else f.time) for n, f in enumerate(output.frames)
    ]
    assert _found(replace(source, frames=same), replace(output, frames=between)) == []
    assert _found(source, replace(output, frames=between)) == ["frame times"]


@pytest.mark.parametrize(
    ("size", "mode", "count", "found"),
    [
        ((64, 64), "RGB", 4, []),
        ((64, 64), "RGBA", 4, ["alpha by Pillow"]),
        ((64, 64), "RGB", 5, ["frames by Pillow"]),
        ((64, 320), "RGB", 4, ["size by Pillow"]),
    ],
)
def test_pillow_sees_pictures_that_ffprobe_cannot(
    tmp_path: Path, size: tuple[int, int], mode: str, count: int, found: list[str]
) -> None:
    images = [
        Image.new(mode, size, (40 * number, 0, 0, 200)[: len(mode)]) for number in range(count)
    ]
    path = tmp_path / "a.webp"
    images[0].save(path, save_all=True, append_images=images[1:], duration=40)
    assert [each.field for each in still_differences(path, _file(32), 32)] == found


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [("+40.680-074.500/", "+40.6800-074.5000/", True), ("+40.68-074.50/", "+40.68-074.51/", False)],
)
def test_a_location_may_have_more_digits(old: str, new: str, same: bool) -> None:
    files = [
        replace(facts, format={"format_name": "mp4", "tags": {"location": place}})
        for facts, place in ((_file(64), old), (_file(32), new))
    ]
    assert (_found(*files) == []) == same


def test_packets_that_the_file_does_not_show_are_not_expected() -> None:
    said = [
        {"stream_index": 0, "pts": 5, "size": "3", "flags": "KD", "data_hash": "MD5:x"},
        {"stream_index": 0, "pts": 9, "size": "3", "flags": "K_", "data_hash": "MD5:y"},
    ]
    (packet,) = ffprobe._packets(said, [_stream(0, "audio")])[0]
    assert packet == Packet(Fraction(9, 1000), None, 3, "y")


def test_the_film_has_most_pictures() -> None:
    streams = [_stream(0, "video"), _stream(1, "video"), _stream(2, "video")]
    one = [Packet(Fraction(0), None, 1, "")]
    assert ffprobe._film(streams, {0: one, 1: one * 3, 2: one * 2}) == 1
    cover = _stream(1, "video", disposition={"attached_pic": 1})
    assert ffprobe._film([streams[0], cover], {0: one, 1: one * 3}) == 0


class _Worker:
    """Answers as the program would."""

    def __init__(self, code: int = 0, err: str = "", plan: str = "") -> None:
        self.code, self.err, self.planned = code, err, plan
        self.lines: list[list[str]] = []

    def run(self, arguments: list[str]) -> Outcome:
        self.lines.append(arguments)
        if arguments[0] == "upscale":
            Path(arguments[2]).write_bytes(b"")
            return Outcome(self.code, "", self.err, 1.0, 0)
        return Outcome(0, self.planned if arguments[0] == "plan" else "", "", 1.0, 0)

    def stop(self) -> None:
        pass


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Facts | None], None]:
    """Sets what ffprobe says of the source; None is that it cannot read it."""

    def let(source: Facts | None) -> None:
        def facts_of(path: Path) -> Facts:
            if path.name != "in.mkv":
                return _file(32)
            if source is None:
                raise FfprobeError("no")
            return source

        monkeypatch.setattr(cases, "facts_of", facts_of)

    return let


def _run(worker: _Worker) -> Record:
    return run_file(Path("dir"), Path("dir/a/in.mkv"), worker)  # type: ignore[arg-type]


def test_a_difference_that_a_line_tells_of_is_no_fault(
    seen: Callable[[Facts | None], None],
) -> None:
    seen(_with(_file(64), _stream(2, "data")))
    note = "note: data stream 2 is left out\n"
    told = _run(_Worker(err=note, plan="note      data stream 2 is left out\n"))
    assert (told.wrong, [each.field for each in told.told]) == ((), ["data stream 2"])
    assert [each.field for each in _run(_Worker()).wrong] == ["data stream 2"]
    assert [each.field for each in _run(_Worker(err=note)).wrong] == ["plan's words"]


@pytest.mark.parametrize(
    ("readable", "code", "state", "fields"),
    [
        (True, 0, "restored", []),
        (True, 3, "refused", ["plan's code", "known before the work", "restored"]),
        (False, 3, "refused by both", ["known before the work"]),
        (False, 0, "ffprobe cannot", []),
        (True, 1, "failed", ["upscale itself", "known before the work", "restored"]),
    ],
)
def test_who_reads_a_file(
    seen: Callable[[Facts | None], None], readable: bool, code: int, state: str, fields: list[str]
) -> None:
    seen(_file(64) if readable else None)
    err = "error: it cannot be read\n" if code else ""
    record = _run(_Worker(code, err))
    assert record.state == state
    assert [each.field for each in record.wrong] == [f for f in fields if f != "plan's code"]


def test_a_record_is_read_as_it_was_written() -> None:
    difference = Difference("frames", "3", "2", "lost")
    record = Record("a/b.mkv", "restored", 1.5, {"info": 0}, ("x",), (difference,), (difference,))
    assert Record.from_json(json.loads(json.dumps(record.as_json()))) == record


def _record(*wrong: Difference) -> Record:
    return Record("a/b.mkv", "restored", 1.5, {}, (), wrong, ())


def test_only_what_is_accepted_may_be_left(capsys: pytest.CaptureFixture[str]) -> None:
    known = Difference("color_space", "unknown", "bt709")
    assert report([_record(known)]) == 0
    assert report([_record(known, Difference("color_space", "bt709", "unknown"))]) == 1
    assert report([]) == 1
    assert "color_space: bt709 -> unknown: a/b.mkv" in capsys.readouterr().out


def test_every_accepted_difference_has_a_reason_and_accepts_no_lost_frame() -> None:
    assert all(each.reason and each.field for each in ACCEPTED)
    assert reason_for("a.mkv", Difference("frames", "3", "2")) is None


def test_a_run_goes_on_where_it_was_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.mkv", "a.mkv"):
        (tmp_path / "media" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "media" / name).write_bytes(name.encode() * (name == "a.mkv"))
    lines = tmp_path / "report.jsonl"
    lines.write_text(json.dumps({**_record().as_json(), "file": "b.mkv"}) + '\n{"file": "a.m')
    ran: list[str] = []

    def once(folder: Path, file: Path, *rest: object) -> Record:
        ran.append(file.name)
        return replace(_record(), file=file.name)

    monkeypatch.setattr("tests.corpus.__main__.run_file", once)
    monkeypatch.setattr("tests.corpus.__main__.Worker", lambda longest: _Worker())
    monkeypatch.setattr("tests.corpus.__main__.tool", str)
    assert main([str(tmp_path / "media"), "--report", str(lines)]) == 0
    assert ran == ["a.mkv"]
    assert main([str(tmp_path / "media"), "--report", str(lines)]) == 0
    assert ran == ["a.mkv"]
    assert "2 files, 0 differences are wrong" in capsys.readouterr().out


def test_a_file_that_the_driver_fails_on_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.mkv", "b.mkv"):
        (tmp_path / name).write_bytes(b"a")

    def fails(folder: Path, file: Path, *rest: object) -> Record:
        if file.name == "a.mkv":
            raise KeyError("width")
        return replace(_record(), file=file.name)

    monkeypatch.setattr("tests.corpus.__main__.run_file", fails)
    monkeypatch.setattr("tests.corpus.__main__.Worker", lambda longest: _Worker())
    monkeypatch.setattr("tests.corpus.__main__.tool", str)
    assert main([str(tmp_path), "--report", str(tmp_path / "new" / "lines.jsonl")]) == 1
    out = capsys.readouterr().out
    assert "the driver itself:  -> KeyError: 'width': a.mkv" in out
    assert "2 files, 1 differences are wrong" in out


def test_missing_tools_and_folders_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main([str(tmp_path)]) == 2
    assert "ffprobe is not installed" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert main([str(tmp_path / "none")]) == 2
    assert "none is not a folder" in capsys.readouterr().err
