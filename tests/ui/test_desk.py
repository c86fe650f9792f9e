"""What is done on the page, without a browser: planning, previews, interrupted jobs, dropped files."""

from __future__ import annotations

import dataclasses
import html
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from starvsr.errors import StarvsrError, UsageError
from starvsr.job.records import first_line, read_records
from starvsr.job.run import upscale_video
from starvsr.media.index import build_index
from starvsr.options import (
    LookOptions,
    SizeOptions,
    StreamOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.ui import planned
from starvsr.ui.access import Roots
from starvsr.ui.commands import shown
from starvsr.ui.desk import DROPPED, Desk
from starvsr.ui.jobs import Queue, Task
from starvsr.ui.markup import job as job_row
from starvsr.ui.planned import Chosen, plan_lines, weights_text
from tests.cli.conftest import Cli, cli
from tests.media.clips import Clip, make

__all__ = ["cli"]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    make(folder / "a.mp4", Clip(frames=12, width=32, height=24))
    return folder


@pytest.fixture
def desk(tmp_path: Path, films: Path) -> Desk:
    """With a queue that does nothing."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Desk(Roots([films]), Queue(tmp_path / "kept.json"), scratch)


def test_a_film_is_read_once_for_all_its_plans(
    desk: Desk, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counted(*values: Any, **named: Any) -> Any:
        read.append(values)
        return build_index(*values, **named)

    monkeypatch.setattr(planned, "build_index", counted)
    for size, width in (("2x", 64), ("1.5x", 48), ("720p", 960)):
        job, warnings = desk.planner.plan(Chosen(str(films / "a.mp4"), size=size))
        assert (job.plan.width, warnings) == (width, [])
    assert len(read) == 1
    lines = dict(plan_lines(job, ["beware"]))
    assert lines["output"] == "a-960x720.mkv: 960x720, libx264 yuv420p"
    assert lines["warning"] == "beware"
    assert "MiB" in lines["memory"]


def test_numbered_images_are_planned_anew_once_one_changes(desk: Desk, films: Path) -> None:
    for number in range(3):
        Image.new("RGB", (32, 24)).save(films / f"{number}.png")
    for frames in (3, 4):
        job, _ = desk.planner.plan(Chosen("%d.png", size="2x"))
        assert (job.plan.width, job.index.frames) == (64, frames)
        Image.new("RGB", (32, 24)).save(films / "3.png")


def test_the_plan_is_that_of_the_command_shown(desk: Desk, films: Path, cli: Cli) -> None:
    chosen = Chosen(str(films / "a.mp4"), "nano", "2x", codec="libx265", crf=20, container="mp4")
    words = shlex.split(shown(chosen.command(desk.roots)))
    target = films / "a-64x48.mp4"
    assert words[:4] == ["starvsr", "upscale", str(films / "a.mp4"), str(target)]
    assert words[4:] == ["--model", "nano", "--scale", "2", "--codec", "libx265", "--crf", "20"]
    assert cli(*words[1:]).code == 0
    with pytest.raises(StarvsrError) as error:
        desk.planner.plan(chosen)
    assert cli(*words[1:]).error == str(error.value)


def test_a_speed_is_of_models_that_have_speeds(desk: Desk, films: Path) -> None:
    """What was chosen for one model is not shown for another, and has no effect there."""
    drafts = Chosen(str(films / "a.mp4"), "toy", "2x", speed="draft")
    words = shlex.split(shown(drafts.command(desk.roots)))
    assert words[words.index("--speed") + 1] == "draft"
    job, _ = desk.planner.plan(drafts)
    assert (job.plan.speed, job.plan.steps) == ("draft", 4)
    assert ", draft, " in drafts.name()
    plain = dataclasses.replace(drafts, model="nano", detail=0.5)
    words = shlex.split(shown(plain.command(desk.roots)))
    assert not {"--speed", "--detail"} & set(words)
    assert desk.planner.plan(plain)[0].plan.speed == "exact"
    assert plain.name() == "nano 2x, auto crf 17"
    unnamed = dataclasses.replace(plain, model="auto")
    assert "--detail" not in shown(unnamed.command(desk.roots))


@pytest.mark.parametrize("content", [b"no film", b""])
def test_a_file_that_is_no_video_gets_the_sentence_of_the_command_line(
    desk: Desk, films: Path, cli: Cli, content: bytes
) -> None:
    path = films / "b.mp4"
    path.write_bytes(content)
    sentence = cli("plan", path).error
    look: list[Callable[[], object]] = [
        lambda: desk.open(str(path)),
        lambda: desk.planner.plan(Chosen(str(path))),
        lambda: desk.start(Chosen(str(path))),
    ]
    for action in look:
        with pytest.raises(StarvsrError) as error:
            action()
        assert str(error.value.args[0]) == sentence


def test_a_film_is_looked_at(desk: Desk, films: Path) -> None:
    info, told = desk.open("a.mp4")
    assert (info.width, info.height) == (32, 24)
    assert told.count("<img") == 6
    assert "h264, 32x24" in told
    (address, *_) = [part.split('"')[0] for part in told.split('src="')[1:]]
    found = desk.file_at(address.removeprefix("shown/"))
    assert found is not None
    assert found.read_bytes()[:2] == b"\xff\xd8"
    assert desk.file_at("another.jpg") is None


def test_a_picture_is_looked_at_and_stays_one(desk: Desk, films: Path) -> None:
    Image.new("RGB", (32, 24), "teal").save(films / "photo.png")
    _, told = desk.open("photo.png")
    assert told.count("<img") == 1
    command = Chosen("photo.png", size="2x", container="mp4").command(desk.roots)
    assert command[2] == str(films / "photo-64x48.png")


def test_outside_of_the_roots_nothing_is_opened_or_written(
    desk: Desk, films: Path, tmp_path: Path
) -> None:
    make(tmp_path / "b.mp4", Clip(frames=2, width=32, height=24))
    with pytest.raises(UsageError, match="is outside"):
        desk.open("../b.mp4")
    with pytest.raises(UsageError, match="is outside"):
        desk.start(Chosen("a.mp4", folder=str(tmp_path)))
    (tmp_path / "empty").mkdir()
    (films / "a-128x96.mkv.starvsr").symlink_to(tmp_path / "empty")
    with pytest.raises(UsageError, match="is outside"):
        desk.start(Chosen("a.mp4"))
    with pytest.raises(UsageError, match="was not dropped on this page"):
        desk.keep_dropped(tmp_path / "b.mp4")


def test_what_a_file_leads_to_outside_is_not_read(desk: Desk, films: Path, tmp_path: Path) -> None:
    secret = make(tmp_path / "secret.mp4", Clip(frames=2, width=32, height=24))
    (films / "link.mp4").symlink_to(secret)
    profile = 'xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:full:2011"'
    lists = {
        "hls.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "list.mp4": "ffconcat version 1.0\nfile link.mp4\n",
        "dash.mpd": f"<?xml version='1.0'?>\n<MPD {profile}></MPD>",
    }
    for name, text in lists.items():
        (films / name).write_text(text)
        for action in (desk.open, lambda name: desk.start(Chosen(name))):
            with pytest.raises(UsageError, match="is a list of other files"):
                action(name)
    Image.new("RGB", (32, 24)).save(tmp_path / "secret.png")
    (films / "1.png").symlink_to(tmp_path / "secret.png")
    for action in (desk.open, lambda name: desk.start(Chosen(name))):
        with pytest.raises(UsageError, match=r"1\.png is outside"):
            action("%d.png")


def test_a_dropped_file_stays_under_a_name_of_its_own(
    desk: Desk, tmp_path: Path, films: Path
) -> None:
    for name in ("c.mp4", "c-2.mp4"):
        upload = tmp_path / "scratch" / "c.mp4"
        upload.write_bytes(b"film")
        assert desk.keep_dropped(upload) == films / DROPPED / name
        assert (films / DROPPED / name).read_bytes() == b"film"
        assert not upload.exists()


def test_a_dropped_file_that_cannot_be_kept_does_not_stay(
    desk: Desk, tmp_path: Path, films: Path
) -> None:
    (films / DROPPED).touch()
    upload = tmp_path / "scratch" / "c.mp4"
    upload.write_bytes(b"film")
    with pytest.raises(OSError, match="exists"):
        desk.keep_dropped(upload)
    assert not upload.exists()


@pytest.fixture
def begun(films: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A job that was interrupted behind its first segment; the options that it was given."""

    def ended(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    options = UpscaleOptions(
        model="nano",
        size=SizeOptions(scale=2),
        windows=WindowOptions(segment_frames=7, scene_detect=False),
        look=LookOptions(sharpen=0.25, repeats="off"),
        streams=StreamOptions(chapters=False),
    )
    with monkeypatch.context() as patched:
        patched.setattr("starvsr.job.run._join", ended)
        with pytest.raises(KeyboardInterrupt):
            upscale_video(films / "a.mp4", films / "out.mkv", options)
    flags = "--scale 2 --segment-frames 7 --no-scene-detect --sharpen 0.25 --repeats off"
    return ["--model", "nano", *flags.split(), "--codec", "libx264", "--no-chapters"]


def test_an_interrupted_job_is_found_and_its_command_resumes_it(
    desk: Desk, films: Path, begun: list[str], cli: Cli
) -> None:
    (found,) = desk.begun(films)
    assert (found.folder, found.target) == (films / "out.mkv.starvsr", films / "out.mkv")
    assert (found.done, found.segments, found.problem) == (3, 3, "")
    assert found.arguments[:3] == ("upscale", str(films / "a.mp4"), str(films / "out.mkv"))
    assert sorted(found.arguments[3:]) == sorted(begun)
    desk.resume(str(found.folder), overwrite=False)
    assert desk.begun(films) == []
    (task,) = desk.queue.tasks
    resumed = cli(*task.arguments)
    assert resumed.code == 0
    assert "resuming: 3 segments" in resumed.err


def test_a_job_in_a_folder_of_another_name_is_the_one_that_is_discarded(
    desk: Desk, films: Path, begun: list[str]
) -> None:
    """Another job may have been begun for the same output."""
    mine, other = films / "mine.starvsr", films / "out.mkv.starvsr"
    shutil.copytree(other, mine)
    desk.resume(str(mine), overwrite=True)
    (task,) = desk.queue.tasks
    assert task.arguments[-3:] == ("--work-dir", str(mine), "--overwrite")
    assert [found.folder for found in desk.begun(films)] == [other]
    task.state = "stopped"
    desk.finish(str(task.number), overwrite=False)
    assert desk.queue.tasks[-1].arguments == ("finish", str(mine))
    desk.discard(str(task.number))
    assert (mine.exists(), other.exists()) == (False, True)


def test_an_interrupted_job_is_finished_or_discarded(
    desk: Desk, films: Path, begun: list[str]
) -> None:
    key = str(films / "out.mkv.starvsr")
    desk.finish(key, overwrite=True)
    assert desk.queue.tasks[0].arguments == ("finish", key, "--overwrite")
    desk.discard(key)
    assert not Path(key).exists()
    for gone in (key, None, "7"):
        with pytest.raises(UsageError, match="choose a job first"):
            desk.discard(gone)
    assert sorted(path.name for path in films.iterdir()) == ["a.mp4"]


def test_a_job_of_a_model_file_is_not_resumed_by_the_models_name(
    desk: Desk, films: Path, begun: list[str]
) -> None:
    """Files are trained under any name, such as one that the program knows."""
    journal = films / "out.mkv.starvsr" / "journal.jsonl"
    records = read_records(journal)
    assert records is not None
    model = {**records.request["model"], "the model's weights": "0" * 64}
    journal.write_bytes(first_line({**records.request, "model": model}, records.notes))
    (found,) = desk.begun(films)
    assert found.problem.startswith(
        "the weights of nano are missing here, or not those that it began"
    )
    assert found.arguments == ()
    desk.finish(str(found.folder), overwrite=False)
    assert desk.queue.tasks[0].arguments[0] == "finish"


def test_a_damaged_or_foreign_job_says_so_and_is_not_resumed(
    desk: Desk, films: Path, begun: list[str], tmp_path: Path
) -> None:
    folder = films / "out.mkv.starvsr"
    (films / "a.mp4").rename(tmp_path / "a.mp4")
    (films / "a.mp4").symlink_to(tmp_path / "a.mp4")
    (found,) = desk.begun(films)
    assert "is outside" in found.problem
    with pytest.raises(UsageError, match="is outside"):
        desk.finish(str(folder), overwrite=True)
    assert desk.queue.tasks == []
    # Nor by way of a task of the page's own that would write the same.
    task = desk.queue.add(Task(("upscale",), films / "out.mkv"))
    with pytest.raises(UsageError, match="is outside"):
        desk.finish(str(task.number), overwrite=True)
    desk.queue.stop(task)
    desk.queue.remove(task)
    (folder / "journal.jsonl").write_text("{")
    (found,) = desk.begun(films)
    assert "cannot be resumed" in found.problem
    with pytest.raises(UsageError, match="cannot be resumed"):
        desk.resume(str(folder), overwrite=False)
    (films / "x.starvsr").symlink_to(tmp_path)
    assert len(desk.begun(films)) == 1


@pytest.mark.parametrize(
    ("part", "content", "problem"),
    [
        ("options", {"-e": [1]}, "has encoder options (-e): give the same command"),
        ("options", {"--fps": [["a"]]}, "not as this version writes it"),
        ("options", {"--work-dir": "/elsewhere"}, "contains --work-dir, which no job writes"),
        ("options", {"--weights-dir": "/elsewhere"}, "contains --weights-dir"),
    ],
)
def test_an_intact_journal_that_says_nonsense_is_not_resumed(
    desk: Desk, films: Path, begun: list[str], part: str, content: object, problem: str
) -> None:
    journal = films / "out.mkv.starvsr" / "journal.jsonl"
    records = read_records(journal)
    assert records is not None
    journal.write_bytes(first_line({**records.request, part: content}, records.notes))
    (found,) = desk.begun(films)
    assert problem in found.problem
    assert found.arguments == ()
    with pytest.raises(UsageError):
        desk.finish(str(found.folder), overwrite=False)


def test_suggestions_are_those_of_the_command_line(desk: Desk, films: Path, cli: Cli) -> None:
    waiting = desk.queue.add(Task(("upscale",), Path("/x.mkv")))
    task = desk.suggest("a.mp4")
    assert desk.queue.tasks == [task, waiting]
    said = cli(*task.arguments, "--resolution", "48", "--progress", "json", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    task.state, task.result = "done", told
    picture = desk.picture(task)
    assert picture is not None
    with Image.open(picture) as sheet:
        assert sheet.width > sheet.height / 2
    shown = job_row(task, desk.address(picture), "")
    for trial in told["trials"]:
        assert html.escape(trial["command"]) in shown
    for setting in told["trials"][0]["settings"]:
        assert html.escape(setting["reason"]) in shown
    with pytest.raises(UsageError, match="is outside"):
        desk.suggest("/etc/passwd")


def test_a_finished_job_is_not_done_again(desk: Desk) -> None:
    task = desk.start(Chosen("a.mp4", overwrite=True))
    task.state = "done"
    with pytest.raises(UsageError, match="is done: choose another job"):
        desk.resume(str(task.number), overwrite=False)
    assert task.state == "done"


def test_a_running_job_is_not_discarded(desk: Desk) -> None:
    task = desk.start(Chosen("a.mp4"))
    with pytest.raises(UsageError, match="stop it first"):
        desk.discard(str(task.number))
    desk.stop(str(task.number))
    with pytest.raises(UsageError, match="is not running"):
        desk.stop(str(task.number))
    desk.discard(str(task.number))
    assert desk.queue.tasks == []


def test_a_preview_has_the_settings_and_goes_to_a_file_of_its_own(desk: Desk, films: Path) -> None:
    waiting = desk.queue.add(Task(("upscale",), Path("/x.mkv")))
    task = desk.preview(Chosen(str(films / "a.mp4"), "nano", "2x"), 1.5, 0.2)
    assert desk.queue.tasks == [task, waiting]
    assert task.arguments[-10:] == (
        "--model",
        "nano",
        "--scale",
        "2",
        "--subtitles",
        "none",
        "--preview",
        "1.5",
        "--at",
        "0.2",
    )
    assert not task.target.is_relative_to(films)
    assert "nano 2x" in task.label


def test_a_preview_of_an_encoder_goes_into_the_container_of_the_job(desk: Desk) -> None:
    chosen = Chosen("a.mp4", codec="prores_ks", container="mov")
    assert desk.preview(chosen, 1, 0).target.suffix == ".mov"
    assert desk.preview(Chosen("a.mp4"), 1, 0).target.suffix == ".mp4"


def test_a_preview_whose_picture_is_gone_is_left_out(desk: Desk, films: Path) -> None:
    task = desk.preview(Chosen("a.mp4"), 1, 0)
    task.state = "done"
    task.result = {"event": "preview", "picture": str(films / "p.png"), "target": "p.mp4"}
    assert desk.previews() == {}
    Image.new("RGB", (130, 24)).save(films / "p.png")
    assert len(desk.previews()) == 1


def test_a_link_among_the_finished_parts_is_not_shown(desk: Desk, films: Path) -> None:
    task = desk.start(Chosen("a.mp4"))
    task.work_dir.mkdir()
    (task.work_dir / "000000-core.mkv").symlink_to(films / "a.mp4")
    assert desk.picture(task) is None
    (task.work_dir / "000001-core.mkv").write_bytes((films / "a.mp4").read_bytes())
    assert desk.picture(task) is not None


def test_weights_are_fetched_by_their_command(desk: Desk) -> None:
    assert desk.download("star-light").arguments == ("download-weights", "star-light")
    assert "licence" in weights_text("star-light")
    for name in ("nano", "none", "--help"):
        with pytest.raises(UsageError, match="has no files to download"):
            desk.download(name)
