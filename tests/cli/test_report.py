"""What goes to standard output and what to standard error: results, progress, messages."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from starvsr.cli.console import ProgressMode, progress_view
from starvsr.types import Progress, SegmentProgress
from starvsr.zoo.amounts import format_seconds
from tests.cli.conftest import FRAMES, Cli, listing
from tests.media.clips import Clip, make

DONE_KEYS = {
    "version",
    "event",
    "target",
    "width",
    "height",
    "frames",
    "lost_frames",
    "model",
    "elapsed_s",
    "seconds",
    "peak_memory_bytes",
    "peak_device_bytes",
}
PROGRESS_KEYS = {
    "version",
    "event",
    "stage",
    "done",
    "total",
    "unit",
    "detail",
    "segment",
    "elapsed_s",
    "rate",
    "left_s",
}
PLAN_KEYS = {
    "version",
    "event",
    "source",
    "target",
    "model",
    "model_reason",
    "device",
    "encoder",
    "lost_frames",
    "notes",
    "plan",
}


def one_object(out: str) -> dict[str, Any]:
    """The JSON object that is all of standard output, on one line."""
    assert out.endswith("\n")
    assert out.count("\n") == 1
    found: dict[str, Any] = json.loads(out)
    return found


def test_results_in_words_go_to_standard_error(cli: Cli, clip: Path, quick: list[str]) -> None:
    output = clip.with_name("out.mp4")
    result = cli("upscale", clip, output, *quick)
    assert (result.code, result.out) == (0, "")
    lines = result.err.splitlines()
    assert any(line.startswith(f"{FRAMES} frames, 32x24 -> 32x24, model ") for line in lines)
    last = rf"{FRAMES} frames in 0:0\d \([\d.]+ fps\), at most [\d.]+ [GM]B of memory"
    assert re.fullmatch(f"{re.escape(str(output))}: {last}", lines[-1])
    assert sorted(listing(clip.parent)) == ["clip.mp4", "out.mp4"]


def test_json_of_upscale(cli: Cli, clip: Path, quick: list[str]) -> None:
    output = clip.with_name("out.mp4")
    result = cli("upscale", clip, output, *quick, "--frames", "2", "--json")
    assert result.code == 0
    done = one_object(result.out)
    assert set(done) == DONE_KEYS
    elapsed_s, seconds = done.pop("elapsed_s"), done.pop("seconds")
    # Importing torch alone takes more than the first.
    assert 1e8 < done.pop("peak_memory_bytes") < 1e11
    assert done.pop("peak_device_bytes") is None
    assert done == {
        "version": 1,
        "event": "done",
        "target": str(output),
        "width": 32,
        "height": 24,
        "frames": 2,
        "lost_frames": 0,
        "model": "seeded-toy",
    }
    assert {"network", "encode video", "decode video"} <= set(seconds)
    assert 0 < seconds["network"] <= elapsed_s


def test_json_of_a_failure_is_nothing_on_standard_output(cli: Cli, tmp_path: Path) -> None:
    result = cli("upscale", tmp_path / "no.mp4", tmp_path / "out.mp4", "--json")
    assert (result.code, result.out) == (3, "")
    assert "no.mp4 does not exist" in result.error


def test_quiet_says_nothing(cli: Cli, clip: Path, quick: list[str]) -> None:
    result = cli("upscale", clip, clip.with_name("out.mp4"), *quick, "--frames", "1", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_quiet_keeps_results_and_errors(cli: Cli, clip: Path, quick: list[str]) -> None:
    output = clip.with_name("out.mp4")
    result = cli("upscale", clip, output, *quick, "--frames", "1", "--quiet", "--json")
    assert (result.code, result.err) == (0, "")
    assert one_object(result.out)["frames"] == 1
    assert "--overwrite" in cli("upscale", clip, output, *quick, "--quiet").error


def test_quiet_holds_back_warnings(cli: Cli, clip: Path) -> None:
    # Stops at the extension, behind the warning.
    arguments = ["upscale", clip, "out.avi", "--steps", "3", "--device", "cpu"]
    assert cli(*arguments).err.startswith("warning: --steps would have no effect")
    assert cli(*arguments, "--quiet").err.startswith("error: out.avi")


def test_verbose_shows_where_an_error_comes_from(cli: Cli, tmp_path: Path) -> None:
    result = cli("upscale", tmp_path / "no.mp4", "out.mp4", "--verbose")
    assert result.code == 3
    assert "\nerror: " in result.err
    assert "Traceback (most recent call last)" in result.err
    # The next command of this process is as quiet as ever.
    assert "Traceback" not in cli("upscale", tmp_path / "no.mp4", "out.mp4").err
    assert "Traceback" in cli("info", tmp_path / "no.mp4", "-v").err


def test_repeated_runs_print_each_message_once(cli: Cli, clip: Path) -> None:
    library, root = logging.getLogger("starvsr"), logging.getLogger()
    before = (list(library.handlers), list(root.handlers), library.level)
    for _ in range(3):
        result = cli("plan", clip, "--steps", "3", "--device", "cpu")
        assert result.err.count("warning: ") == 1
    assert (list(library.handlers), list(root.handlers), library.level) == before


def test_plain_progress_is_a_line_for_each_stage(cli: Cli, clip: Path, quick: list[str]) -> None:
    result = cli("upscale", clip, clip.with_name("out.mp4"), *quick, "--progress", "plain")
    names = [line.split(":")[0] for line in result.err.splitlines()]
    stages = ["reading", "loading model", "restoring", "joining"]
    assert [name for name in names if name in stages] == stages
    assert f"restoring: {FRAMES}/{FRAMES} frames, " in result.err
    assert "\x1b" not in result.err


def test_the_end_of_a_stage_is_a_line_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 6.0, 12.0, 20.0, 26.0, 40.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with progress_view("plain", quiet=False) as view:
        view(Progress("restore", 0.0, 1))
        view(Progress("restore", 0.5, 1))
        view(Progress("restore", 1.0, 1))
        view(Progress("degrade", 1.0, 4))
        view(Progress("degrade", 4.0, 4))
        view(Progress("degrade", 4.0, 4))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "restoring: done in 0:12",
        "degrading: 4/4 frames",
    ]


def test_progress_is_plain_where_standard_error_is_no_terminal(
    cli: Cli, clip: Path, quick: list[str]
) -> None:
    result = cli("upscale", clip, clip.with_name("out.mp4"), *quick, "--frames", "1")
    assert "loading model: done in" in result.err


def test_no_progress(cli: Cli, clip: Path, quick: list[str]) -> None:
    result = cli("upscale", clip, clip.with_name("out.mp4"), *quick, "--progress", "none")
    assert len(result.err.splitlines()) == 2
    assert "restoring" not in result.err


def test_rich_progress_and_messages_share_the_terminal(
    cli: Cli, clip: Path, quick: list[str]
) -> None:
    result = cli("upscale", clip, clip.with_name("out.mp4"), *quick, "--progress", "rich", "--json")
    assert result.code == 0
    one_object(result.out)
    assert "restoring" in result.err
    assert f"{FRAMES}/{FRAMES}" in result.err
    assert f"{FRAMES} frames, 32x24 -> 32x24" in result.err


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_view("auto", quiet=False) as view:
        view(Progress("restore", 5.0, 10))
    assert "restoring" in terminal.getvalue()
    assert "━" in terminal.getvalue()


def test_plain_progress_comes_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_view("plain", quiet=False) as view:
        for second in range(12):
            now = 100.0 + second
            view(Progress("restore", second * 2.0, 40))
    assert capsys.readouterr().err.splitlines() == [
        "restoring: 10/40 frames, 2.00 fps, 0:05 elapsed, 0:15 left",
        "restoring: 20/40 frames, 2.00 fps, 0:10 elapsed, 0:10 left",
        "restoring: 22/40 frames, 2.00 fps, 0:11 elapsed, 0:09 left",
    ]


def test_progress_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_view("json", quiet=False) as view:
        view(Progress("load", 1, 1))
        for tenth in range(11):
            now = 100.0 + tenth / 10
            # A job that goes on from 10 frames that were there.
            view(Progress("restore", 10 + tenth, 40))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for line in lines:
        assert set(line) == PROGRESS_KEYS
        assert (line["version"], line["event"]) == (1, "progress")
        assert line["left_s"] is None or line["left_s"] >= 0
    assert [(line["stage"], line["done"], line["left_s"]) for line in lines] == [
        ("load", 1, 0),
        ("restore", 15, 2.5),
        ("restore", 20, 2.0),
    ]
    assert {line["unit"] for line in lines} == {"", "frames"}


def test_progress_of_a_segment_beside_the_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(mode: ProgressMode) -> str:
        now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        with progress_view(mode, quiet=False) as view:
            # 10 frames were there, which do not count as fast ones.
            view(Progress("restore", 10, 40))
            now = 106.0
            view(Progress("restore", 22, 40, segment=SegmentProgress(3, 4, 2.25, 8)))
        return capsys.readouterr().err

    assert line("plain").splitlines()[-1] == (
        "restoring: 22/40 frames (segment 3 of 4: 2/8), 2.00 fps, 0:06 elapsed, 0:09 left"
    )
    last = json.loads(line("json").splitlines()[-1])
    assert last["segment"] == {"number": 3, "count": 4, "done": 2.25, "total": 8}
    assert (last["rate"], last["left_s"], last["elapsed_s"]) == (2, 9, 6)
    bars = line("rich")
    for word in ("restoring", "22/40", "2.00 fps", "0:09 left", "segment 3/4", "2/8"):
        assert word in bars
    with progress_view("rich", quiet=False) as view:
        view(Progress("restore", 8, 40, segment=SegmentProgress(1, 4, 7.5, 8)))
        view(Progress("restore", 12, 40, segment=SegmentProgress(1, 4, 8, 8)))
    assert "segment 1/4" not in capsys.readouterr().err.rpartition("restoring")[2]


def test_a_run_reports_its_progress_as_json(cli: Cli, clip: Path, quick: list[str]) -> None:
    result = cli("upscale", clip, clip.with_name("out.mkv"), *quick, "--progress", "json")
    assert result.code == 0
    lines = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    # On a busy machine the end of a stage is reported twice.
    complete = dict.fromkeys(line["stage"] for line in lines if line["done"] == line["total"])
    assert list(complete) == ["index", "load", "restore", "join"]


def test_a_stage_of_unknown_length_does_not_flood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Some headers promise no number of frames: every report is then of all that is known.
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress_view("plain", quiet=False) as view:
        for tenth in range(100):
            now = tenth / 10
            view(Progress("index", 50.0 * (tenth + 1), 50 * (tenth + 1)))
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (73.4, "1:13"), (3599.5, "1:00:00"), (3700, "1:01:40")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_plan_in_words(cli: Cli, clip: Path, toy_path: Path) -> None:
    before = listing(clip.parent)
    result = cli("plan", clip, "--model", toy_path, "--scale", "2", "--segment-frames", "8")
    assert (result.code, result.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert lines["input"] == f"{clip}: 32x24, 12 of 12 frames"
    assert lines["output"] == f"{clip.with_name('clip-64x48.mkv')}: 64x48, libx264 yuv420p"
    assert lines["model"].startswith(f"{toy_path}, as requested, on CPU with ")
    assert lines["segments"] == "2, the longest of 7 frames"
    assert lines["shots"] == "1"
    assert {"chunks", "tiles", "network", "memory", "latent", "latents"} <= set(lines)
    # What other models would take for the same job.
    assert {"nano:", "star-light:", "star-heavy:"} <= set(lines)
    assert lines["star-light:"].startswith("--segment-frames 8 is too short")
    assert "calls on 8 frames of 64x48" in lines["nano:"]
    assert listing(clip.parent) == before


def test_plan_says_what_a_speed_stands_for(cli: Cli, clip: Path) -> None:
    def network_calls(*arguments: str) -> tuple[int, str, dict[str, str]]:
        result = cli("plan", clip, "--model", "toy", *arguments)
        assert (result.code, result.err) == (0, "")
        lines = dict(line.split(maxsplit=1) for line in result.out.splitlines())
        words = lines["network"].split()
        return int(words[words.index("calls,") - 1]), lines["network"], lines

    exact, said, lines = network_calls()
    assert "at most" not in said
    assert "speed" not in lines
    fast, said, lines = network_calls("--speed", "fast")
    assert fast < exact
    assert said.startswith("at most ")
    assert lines["speed"] == (
        "fast: --steps 15 --cfg 1.2 --guidance-interval 0.3:0.8 --cache 0.025 --chunk-overlap 1"
    )
    _, _, lines = network_calls("--speed", "fast", "--cache", "0.5", "--chunk-overlap", "3")
    assert lines["speed"].endswith("--cache 0.5 --chunk-overlap 3")
    _, _, lines = network_calls("--speed", "fast", "--cfg", "1")
    assert lines["speed"] == "fast: --steps 15 --cfg 1 --cache 0.025 --chunk-overlap 1"
    draft, said, lines = network_calls("--speed", "draft")
    assert draft < fast
    assert "at most" not in said
    assert lines["speed"] == "draft: --steps 4 --cfg 1 --cache 0 --chunk-overlap 1"


def test_plan_as_json(cli: Cli, clip: Path, toy_path: Path) -> None:
    before = listing(clip.parent)
    output = clip.with_name("out.mkv")
    result = cli("plan", clip, output, "--model", toy_path, "--segment-frames", "8", "--json")
    assert (result.code, result.err) == (0, "")
    found = one_object(result.out)
    assert set(found) == PLAN_KEYS
    assert (found["version"], found["event"]) == (1, "plan")
    assert (found["source"], found["target"]) == (str(clip), str(output))
    assert found["model"] == "seeded-toy"
    assert found["encoder"]["container"] == "matroska"
    plan = found["plan"]
    assert (plan["width"], plan["height"], plan["frames"]) == (128, 96, 12)
    assert [(s["first"], s["last"]) for s in plan["segments"]] == [(0, 7), (5, 12)]
    assert listing(clip.parent) == before


def test_plan_refuses_what_upscale_refuses(cli: Cli, clip: Path) -> None:
    assert cli("plan", clip, clip).code == 2
    assert cli("plan", clip, clip.with_name("out.txt")).code == 7
    assert cli("plan", clip, "--codec", "no-such-codec").code == 7
    assert cli("plan", clip, "--attention", "xformers", "--device", "cpu").code == 2
    assert cli("plan", clip.parent).code == 2
    assert cli("plan", clip.with_name("no.mp4")).code == 3


def test_plan_loads_no_weights(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("starvsr.job.executor.load_choice", refuse)
    assert cli("plan", clip, *quick).code == 0


def test_info_of_a_file(cli: Cli, clip: Path) -> None:
    result = cli("info", clip)
    assert (result.code, result.err) == (0, "")
    assert f"file           {clip}\n" in result.out
    assert "h264, 32x24, yuv420p (8 bit)" in result.out
    assert "25.000 per second" in result.out
    assert "1: audio aac eng mono 48000 Hz" in result.out


def test_info_of_a_file_as_json(cli: Cli, clip: Path) -> None:
    result = cli("info", clip, "--json")
    assert (result.code, result.err) == (0, "")
    found = one_object(result.out)
    assert (found["version"], found["event"]) == (1, "info")
    assert found["file"] == str(clip)
    assert (found["frames"], found["frame_rate"], found["duration_s"]) == (FRAMES, [25, 1], 0.48)
    assert (
        found["video"] | {"stream": 0, "width": 32, "height": 24, "bit_depth": 8} == found["video"]
    )
    assert (found["rotation"], found["interlaced"], found["crop"]["left"]) == (0, False, 0)
    assert [each["kind"] for each in found["streams"]] == ["video", "audio"]
    assert found["streams"][1] == {
        "index": 1,
        "kind": "audio",
        "codec": "aac",
        "language": "eng",
        "detail": "mono 48000 Hz",
        "empty": False,
    }


def test_info_of_a_file_that_says_little(cli: Cli, tmp_path: Path) -> None:
    wide = make(tmp_path / "wide.mkv", Clip(frames=2, sample_aspect=Fraction(4, 3)))
    result = cli("info", wide, "--json")
    found = one_object(result.out)
    assert found["frames"] is None
    assert found["sample_aspect"] == [4, 3]
    assert "frames         not said\n" in cli("info", wide).out


def test_info_names_colours_as_ffmpeg_does(cli: Cli, tmp_path: Path) -> None:
    color = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}
    clip = Clip(frames=1, pix_fmt="yuv420p10le", color=color)
    source = make(tmp_path / "hdr.mp4", clip)
    assert "color          matrix bt2020nc, primaries bt2020, transfer smpte2084, range tv" in (
        cli("info", source).out
    )
    found = one_object(cli("info", source, "--json").out)["color"]
    assert (found["transfer"], found["chroma_location"]) == ("smpte2084", "left")


def test_info_of_the_installation(cli: Cli) -> None:
    result = cli("info")
    assert (result.code, result.err) == (0, "")
    names = {line[:14].strip() for line in result.out.splitlines()}
    assert {"starvsr", "torch", "PyAV", "device", "attention", "encoders", "models"} <= names
    assert "libx264" in result.out
    assert "nano: " in result.out
    found = one_object(cli("info", "--json").out)
    assert found["event"] == "info"
    assert "libx264" in found["encoders"]
    assert (found["device"]["name"], type(found["device"]["memory_bytes"])) == ("cpu", int)
    assert {"nano", "star-light"} <= {model["name"] for model in found["models"]}


def test_info_of_what_is_no_video(cli: Cli, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video\n" * 100)
    assert cli("info", text).code == 3
    assert cli("info", tmp_path).code == 2
    assert "does not exist" in cli("info", tmp_path / "no.mp4").error
