"""`--jobs FILE`: every video with options of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from starvsr.cli.jobs import read_jobs
from starvsr.errors import UsageError
from starvsr.zoo.load import LoadedModel, load_choice
from tests.cli.conftest import Cli, listing

Jobs = Callable[[str], Path]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    """Writes a jobs file into the folder of the clip."""

    def write(text: str) -> Path:
        path = tmp_path / "jobs.toml"
        path.write_text(text)
        return path

    return write


def size(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return video.width, video.height


def test_every_video_has_its_own_options(
    cli: Cli, clip: Path, quick: list[str], jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(clip, clip.with_name("other.mp4"))
    file = jobs("""
        [defaults]
        frames = 9
        no-metadata = true

        [[job]]
        input = "clip.mp4"
        output = "large.mkv"
        scale = 2
        e = ["bf=0", "g=2"]
        start = 00:00:00.16
        resume = false

        [[job]]
        input = "other.mp4"
        output = "small.mp4"
        no-metadata = false
    """)
    loads = 0

    def counted(*arguments: Any, **named: Any) -> LoadedModel:
        nonlocal loads
        loads += 1
        return load_choice(*arguments, **named)

    monkeypatch.setattr("starvsr.job.executor.load_choice", counted)
    elsewhere = clip.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    result = cli("upscale", "--jobs", file, *quick, "--frames", "3", "--json")
    assert result.code == 0, result.err
    events = [json.loads(line) for line in result.out.splitlines()]
    assert [event["event"] for event in events] == ["done", "done", "batch"]
    assert loads == 1
    assert [event["frames"] for event in events[:2]] == [3, 3], (
        "typed options come before [defaults]"
    )
    assert size(clip.with_name("large.mkv")) == (64, 48), "a job's own come before typed ones"
    assert size(clip.with_name("small.mp4")) == (32, 24)
    assert "clip.mp4 -> large.mkv   done" in result.err
    assert listing(elsewhere) == {}
    first, second = read_jobs(file, {"frames": 3})
    assert first.options.encode.extra == (("bf", "0"), ("g", "2"))
    assert first.options.range.start_s == pytest.approx(0.16)
    assert (first.options.resume.resume, second.options.resume.resume) == (False, True)
    assert (first.options.streams.metadata, second.options.streams.metadata) == (False, True)
    assert cli("upscale", "--jobs", file, *quick).err.count("already exists") == 2


def test_a_job_that_fails(cli: Cli, clip: Path, quick: list[str], jobs: Jobs) -> None:
    file = jobs("""
        [[job]]
        input = "no.mp4"
        output = "a.mkv"

        [[job]]
        input = "clip.mp4"
        output = "b.mkv"
        frames = 1
    """)
    result = cli("upscale", "--jobs", file, *quick)
    assert result.code == 2
    assert "jobs.toml, job 1 (no.mp4), input: " in result.error
    assert "no.mp4 does not exist" in result.error
    assert sorted(listing(clip.parent)) == ["clip.mp4", "jobs.toml"]
    result = cli("upscale", "--jobs", file, *quick, "--keep-going", "--json")
    assert result.code == 6
    failed, done, whole = (json.loads(line) for line in result.out.splitlines())
    assert (failed["event"], failed["target"]) == ("failed", str(clip.with_name("a.mkv")))
    assert (done["event"], whole["failed"]) == ("done", 1)


def test_ways_to_say_one_thing_replace_each_other(jobs: Jobs) -> None:
    file = jobs("""
        defaults = { scale = 2, end = 9, prompt = "a bee" }
        job = [
            { input = "a.mp4", output = "a.mkv", resolution = 720, duration = 3, prompt-file = "words.txt" },
            { input = "b.mp4", output = "b.mkv", ss = 1 },
        ]
    """)
    file.with_name("words.txt").write_text("a flower\n")
    first, second = read_jobs(file, {"height": 1080})
    assert (first.options.size.resolution, first.options.size.height) == (720, None)
    assert (second.options.size.scale, second.options.size.height) == (None, 1080)
    assert (first.options.range.end_s, first.options.range.duration_s) == (None, 3)
    assert (second.options.range.start_s, second.options.range.end_s) == (1, 9)
    assert first.options.sampling.prompt == "a flower"


def test_paths_are_relative_to_the_file(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/somebody")
    file = jobs("""
        [[job]]
        input = "~/a.mp4"
        output = "/b.mkv"
        model = "mine.safetensors"
        work-dir = "work"

        [[job]]
        input = "~no-such-user-here/c.mp4"
        output = "c.mkv"
        model = "nano"
    """)
    first, second = read_jobs(file, {})
    assert (first.source, first.target) == (Path("/home/somebody/a.mp4"), Path("/b.mkv"))
    assert first.options.model == str(tmp_path / "mine.safetensors")
    assert first.options.resume.work_dir == tmp_path / "work"
    assert second.source == tmp_path / "~no-such-user-here" / "c.mp4"
    assert second.options.model == "nano"


JOB = '[[job]]\ninput = "a.mp4"\noutput = "b.mkv"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "jobs.toml contains no jobs: write a [[job]] table"),
        ("[[job", "jobs.toml is not TOML: "),
        ("[job]", "jobs.toml: job is not a list of tables: write [[job]]"),
        (f"defaults = 3\n{JOB}", "jobs.toml: defaults is not a table"),
        (f"crf = 20\n{JOB}", "jobs.toml: crf is unknown: give [[job]] tables and [defaults]"),
        ('[[job]]\ninput = "a"', "jobs.toml, job 1: output is missing: give a file"),
        ('[[job]]\ninput = "a\\u0000"', "a string in it contains a null character"),
        ("[[job]]\ninput = 3", "jobs.toml, job 1: input = 3 is not allowed: give a file"),
        (f"{JOB}\n{JOB}cfr = 20", "job 2 (a.mp4): the key cfr is unknown: did you mean crf?"),
        (f"{JOB}\nqqq = 20", "the key qqq is unknown: see starvsr upscale --help-all"),
        (f"{JOB}\nhelp = true", "the key help is unknown"),
        (f"{JOB}\nverbose = true", "the key verbose is unknown"),
        (f"[defaults]\ninput = 'a'\n{JOB}", "[defaults]: the key input belongs to a [[job]] table"),
        (f"{JOB}\ncrf = 'low'", "job 1 (a.mp4), crf: 'low' is not a number: give one such as 2"),
        (f"{JOB}\nframes = 1.5", "job 1 (a.mp4), frames: '1.5' is not an integer"),
        (f"{JOB}\nstart = '1:x'", "job 1 (a.mp4), start: '1:x' is not a time"),
        (f"{JOB}\ncrf = true", "job 1 (a.mp4), crf: True is neither text nor a number"),
        (f"{JOB}\ncrf = [1, 2]", "job 1 (a.mp4), crf: [1, 2] is neither text nor a number"),
        (f"{JOB}\noverwrite = 1", "job 1 (a.mp4), overwrite: 1 is not allowed: give true or false"),
        (f"{JOB}\nsubtitles = 'loud'", "'loud' is not one of 'copy', 'none'"),
        (f"{JOB}\ne = ['bf']", "job 1 (a.mp4), e: 'bf' is not an encoder option: give key=value"),
        (f"{JOB}\nt = 1\nduration = 2", "job 1 (a.mp4), duration: this option is given twice"),
        (f"{JOB}\nscale = 0", "job 1 (a.mp4): --scale 0 is not allowed: give a number above 0"),
        (f"{JOB}\nscale = 2\nwidth = 9", "job 1 (a.mp4): --scale and --width/--height contradict"),
        (
            f"{JOB}\n{JOB}",
            "would both become b.mkv (many systems do not distinguish case in names): give another",
        ),
        (f'{JOB}\n[[job]]\ninput = "b.mkv"\noutput = "c.mkv"', "b.mkv is one of the inputs"),
    ],
)
def test_what_is_refused(cli: Cli, clip: Path, jobs: Jobs, text: str, said: str) -> None:
    file = jobs(text)
    before = listing(clip.parent)
    result = cli("upscale", "--jobs", file)
    assert result.code == 2
    assert said in result.error
    assert listing(clip.parent) == before


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--jobs .*no\.toml cannot be read: No such file"):
        read_jobs(tmp_path / "no.toml", {})
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(UsageError, match="is not text in UTF-8"):
        read_jobs(tmp_path / "latin.toml", {})


def test_what_contradicts_a_jobs_file(cli: Cli, clip: Path, jobs: Jobs) -> None:
    file = jobs(JOB)
    for arguments, said in (
        ([clip, "out.mkv"], "leave INPUT and OUTPUT out"),
        ([clip], "leave INPUT and OUTPUT out"),
        (["--name-template", "x"], "--name-template would have no effect"),
        (["--work-dir", "x"], "give each job its own work-dir"),
    ):
        result = cli("upscale", "--jobs", file, *arguments)
        assert (result.code, said in result.error) == (2, True), result.err
    result = cli("upscale")
    assert (result.code, "INPUT is required" in result.error) == (2, True)


def test_folders_of_outputs_are_created_in_any_order(cli: Cli, clip: Path, jobs: Jobs) -> None:
    text = "".join(
        f'[[job]]\ninput = "{clip.name}"\noutput = "{place}/a.mkv"\nframes = 1\nscale = 1\n'
        for place in ("new/deeper", "new", f"{clip.name}/in-a-file")
    )
    result = cli("upscale", "--jobs", jobs(text), "--keep-going")
    assert result.code == 6, result.err
    made = [name for name in listing(clip.parent) if name.endswith("a.mkv")]
    assert sorted(made) == ["new/a.mkv", "new/deeper/a.mkv"]
    assert cli("upscale", "--jobs", jobs(text)).code == 2, "the file is noticed before any work"
