"""Names and places that other tools stumble over: they work, or are refused by name, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from functools import partial
from pathlib import Path

import pytest

from starvsr.media.probe import probe
from tests.cli.conftest import Cli, as_nobody, listing

SHORT = ["--frames", "1", "--cfg", "1"]

NAMES = [
    " spaces  in it .mp4",
    'it\'s "quoted" `so` $HOME.mp4',
    "two\nlines\t.mp4",
    unicodedata.normalize("NFC", "é ü ガ.mp4"),
    unicodedata.normalize("NFD", "é ü ガ.mp4"),
    "👩\u200d🚀 עברית \u202egnp.mp4",
    os.fsdecode(b"latin \xe9 \xff\xfe.mp4"),
    "Part 1: the end.mp4",
    "concat:a|b.mp4",
    "file:x.mp4",
    "pipe:0.mp4",
    "%06d.mp4",
    "[a-z]*?.mp4",
    "# {stem} & (2); rm -rf.mp4",
    "..mp4.mp4",
    "\\back\\slash.mp4",
    "é" * 125 + "x.mp4",
]


def names(folder: Path) -> list[str]:
    """What lies in a folder, of links their own names."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_any_name(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In and out, relative, in a folder of the same name."""
    folder = clip.parent / name
    folder.mkdir()
    clip.rename(folder / name)
    monkeypatch.chdir(folder)
    output = f"o{name[1:]}"
    result = cli("upscale", name, output, *quick, *SHORT)
    assert result.code == 0, result.err
    assert sorted(listing(folder)) == sorted([name, output])
    assert probe(Path(output)).header_frames == 1


@pytest.fixture
def videos(clip: Path) -> list[str]:
    """Names of what lies in the folder `videos`."""
    # Composed or decomposed is one name on some systems, and hidden files are left alone.
    apart = unicodedata.normalize("NFD", "é ü ガ.mp4")
    folder = clip.parent / "videos"
    folder.mkdir()
    some = [name for name in NAMES if name != apart and not name.startswith(".")]
    for name in some:
        shutil.copy(clip, folder / name)
    return some


def test_any_name_in_a_batch(cli: Cli, tmp_path: Path, videos: list[str], quick: list[str]) -> None:
    folder = (tmp_path / "videos").rename(tmp_path / "[a-z]* {stem}")
    large = tmp_path / "%06d"
    result = cli("upscale", folder, large, *quick, *SHORT)
    assert result.code == 0, result.err
    assert names(large) == sorted(videos)


def test_any_name_is_measured(cli: Cli, tmp_path: Path, videos: list[str]) -> None:
    folder, report = tmp_path / "videos", tmp_path / "report"
    result = cli("evaluate", folder, folder, "-o", report, "--metrics", "psnr_y", "-q")
    assert result.code == 0, result.err
    measured = json.loads((report / "metrics.json").read_text(encoding="utf-8"))["clips"]
    assert [each["result"] for each in measured] == sorted(str(folder / name) for name in videos)
    assert [each["mean"]["psnr_y"] for each in measured] == [100.0] * len(videos)


def test_any_name_is_degraded(cli: Cli, tmp_path: Path, videos: list[str]) -> None:
    result = cli("degrade", tmp_path / "videos", tmp_path / "low", "--preset", "light", "-s", "2")
    assert result.code == 0, result.err
    assert names(tmp_path / "low") == sorted(videos)


def test_any_name_is_compared(cli: Cli, tmp_path: Path, clip: Path) -> None:
    name, page = os.fsdecode(b"latin \xe9 <b>&'.mp4"), tmp_path / "page.html"
    other = clip.rename(clip.with_name(name))
    result = cli("compare", other, other, "-o", page, "--metrics", "psnr_y", "-q")
    assert result.code == 0, result.err
    assert r"latin \udce9 &lt;b&gt;&amp;&#x27;.mp4" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["-in.mp4", "--scale.mp4"])
def test_leading_dash(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    clip.rename(clip.with_name(name))
    monkeypatch.chdir(clip.parent)
    result = cli("upscale", *quick, *SHORT, "--", name, "-out.mp4")
    assert result.code == 0, result.err
    assert sorted(listing(clip.parent)) == sorted([name, "-out.mp4"])


@pytest.mark.parametrize("name", ["concat:a|b", "file:x", "/dev/no.mp4"])
def test_what_is_no_file_is_not_taken_for_a_protocol(
    cli: Cli, tmp_path: Path, quick: list[str], name: str
) -> None:
    result = cli("upscale", name, tmp_path / "out.mp4", *quick)
    assert (result.code, result.error) == (3, f"{Path(name)} does not exist: check the name")


def test_deep_folders(cli: Cli, clip: Path, quick: list[str]) -> None:
    folder = clip.parent.joinpath(*["d" * 200] * 15)
    folder.mkdir(parents=True)
    source = clip.rename(folder / "in.mp4")
    result = cli("upscale", source, folder / "out.mp4", *quick, *SHORT)
    assert result.code == 0, result.err
    assert sorted(listing(folder)) == ["in.mp4", "out.mp4"]


def test_a_folder_so_deep_that_parts_have_no_room(cli: Cli, clip: Path, quick: list[str]) -> None:
    # A path has 4095 bytes at most.
    folder, longest = clip.parent, 4095 - len("/out.mp4")
    while (room := longest - len(os.fspath(folder))) > 1:
        folder /= "d" * min(200, room - 1)
    folder.mkdir(parents=True)
    result = cli("upscale", clip, folder / "out.mp4", *quick, *SHORT)
    assert result.code == 7
    assert "name too long" in result.error
    assert not listing(folder)


@pytest.mark.parametrize("loop", ["input", "output"])
def test_symlink_loops(cli: Cli, clip: Path, quick: list[str], loop: str) -> None:
    one, other = clip.with_name("one.mp4"), clip.with_name("other.mp4")
    one.symlink_to(other)
    other.symlink_to(one)
    before = names(clip.parent)
    if loop == "input":
        result = cli("upscale", one, clip.with_name("out.mp4"), *quick)
        assert (result.code, result.error) == (3, f"{one} does not exist: check the name")
        batch = cli("upscale", one, clip, clip.with_name("large"), *quick)
        assert (batch.code, batch.error) == (3, f"{one} does not exist: check the name")
    else:
        result = cli("upscale", clip, one, *quick, "--overwrite")
        assert result.code == 7
        assert result.error.startswith(f"{one} cannot be written: ")
        folder = one.rename(clip.with_name("one"))
        other.unlink()
        other.symlink_to(folder)
        folder.unlink()
        folder.symlink_to(other)
        batch = cli("upscale", clip.parent, folder, *quick)
        assert batch.code == 7, batch.err
        folder.rename(one)
    assert names(clip.parent) == before


def test_folder_that_holds_itself(cli: Cli, clip: Path, quick: list[str]) -> None:
    videos = clip.parent / "videos"
    videos.mkdir()
    (videos / "again.mp4").symlink_to(videos)
    clip.rename(videos / "a.mp4")
    result = cli("upscale", videos, clip.parent / "large", *quick, *SHORT)
    assert result.code == 0, result.err
    assert names(clip.parent / "large") == ["a.mp4"]


def test_input_through_a_link(cli: Cli, clip: Path, quick: list[str]) -> None:
    link = clip.with_name("link.mp4")
    link.symlink_to(clip.name)
    result = cli("upscale", link, clip.with_name("out.mp4"), *quick, *SHORT)
    assert result.code == 0, result.err
    assert link.is_symlink()


@pytest.mark.parametrize("there", [True, False])
def test_output_through_a_link(cli: Cli, clip: Path, quick: list[str], there: bool) -> None:
    """As with ffmpeg: the file that the link names is written, and the link stays."""
    elsewhere = clip.parent / "elsewhere"
    elsewhere.mkdir()
    real, link = elsewhere / "real.mp4", clip.with_name("out.mp4")
    link.symlink_to(real)
    if there:
        real.write_bytes(b"old")
        kept = cli("upscale", clip, link, *quick, *SHORT)
        assert (kept.code, real.read_bytes()) == (7, b"old")
    result = cli("upscale", clip, link, *quick, *SHORT, "--overwrite")
    assert result.code == 0, result.err
    assert link.readlink() == real
    assert probe(real).header_frames == 1
    assert sorted(listing(clip.parent)) == [
        "clip.mp4",
        "elsewhere",
        "elsewhere/real.mp4",
        "out.mp4",
    ]


def test_output_through_a_link_to_nowhere(cli: Cli, clip: Path, quick: list[str]) -> None:
    link = clip.with_name("out.mp4")
    link.symlink_to(clip.parent / "no" / "real.mp4")
    result = cli("upscale", clip, link, *quick, "--overwrite")
    assert (result.code, result.error) == (
        7,
        f"the folder {clip.parent / 'no'} does not exist: make it first",
    )
    assert link.is_symlink()


def test_output_through_a_link_to_a_device(cli: Cli, clip: Path, quick: list[str]) -> None:
    link = clip.with_name("out.mp4")
    link.symlink_to("/dev/null")
    result = cli("upscale", clip, link, *quick, "--overwrite")
    assert result.code == 7
    assert result.error == f"{link} is a pipe or a device: give the name of a file to write"
    assert Path("/dev/null").is_char_device()


def test_pipes_and_devices(cli: Cli, clip: Path, quick: list[str]) -> None:
    pipe = clip.with_name("pipe.mp4")
    os.mkfifo(pipe)
    for command in (["info", pipe], ["plan", pipe, *quick], ["upscale", pipe, "out.mp4", *quick]):
        result = cli(*command)
        assert (result.code, result.error) == (
            3,
            f"{pipe} is a pipe or a device, which cannot be read twice: write it to a file, or give - to "
            "upscale, which stores standard input",
        )
    assert cli("info", "/dev/zero").code == 3
    result = cli("upscale", clip, pipe, *quick, "--overwrite")
    assert result.code == 7
    assert result.error == f"{pipe} is a pipe or a device: give the name of a file to write"
    assert cli("compare", clip, clip, "-o", pipe, "--overwrite").error == result.error
    assert pipe.is_fifo()
    assert cli("upscale", clip, "/dev/null", *quick, "--overwrite").code == 7
    assert names(clip.parent) == ["clip.mp4", "pipe.mp4"]


def test_folder_that_cannot_be_written(
    cli: Cli, clip: Path, quick: list[str], toy_path: Path
) -> None:
    closed = clip.parent / "closed"
    closed.mkdir(mode=0o555)
    before = listing(clip.parent)
    with as_nobody(closed, toy_path.parent):
        one = cli("upscale", clip, closed / "out.mp4", *quick)
        many = cli(
            "upscale",
            clip,
            clip.parent / "clip.mp4",
            closed,
            *quick,
            "--name-template",
            "{number}{ext}",
        )
        new = cli(
            "upscale",
            clip,
            clip.parent / "clip.mp4",
            closed / "new",
            *quick,
            "--name-template",
            "{number}{ext}",
        )
    for result in (one, many, new):
        assert result.code == 7, result.err
        assert str(closed) in result.error
    assert listing(clip.parent) == before


def test_closed_folders_are_noticed_before_the_work(
    cli: Cli, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It asks for the user who started the tests otherwise.
    monkeypatch.setattr(os, "access", partial(os.access, effective_ids=True))
    closed = clip.parent / "closed"
    closed.mkdir(mode=0o555)
    before = listing(clip.parent)
    # Whatever is imported on first use must be there before root's power goes.
    assert cli("evaluate", clip, clip, "-q").code == 0
    with as_nobody(closed):
        results = [
            cli("evaluate", clip, "-o", closed),
            cli("evaluate", clip, "-o", closed / "new"),
            cli("compare", clip, clip, "-o", closed / "page.html"),
            cli("degrade", clip, closed / "low.mp4"),
            cli("degrade", clip, closed, "--pairs"),
        ]
    for result in results:
        assert (result.code, result.out) == (7, ""), result.err
        assert str(closed) in result.error
        assert "measuring" not in result.err and "degrading" not in result.err
    assert listing(clip.parent) == before


def test_folder_that_cannot_be_read(cli: Cli, clip: Path, quick: list[str]) -> None:
    closed = clip.parent / "closed"
    closed.mkdir()
    shutil.copy(clip, closed / "a.mp4")
    closed.chmod(0o000)
    with as_nobody(clip.parent):
        inside = cli("info", closed / "a.mp4")
        all_of_it = cli("upscale", closed, clip.parent / "large", *quick)
    closed.chmod(0o755)
    assert (inside.code, inside.error) == (
        3,
        f"{closed / 'a.mp4'} cannot be read: permission denied",
    )
    assert (all_of_it.code, all_of_it.error) == (3, f"{closed} cannot be read: permission denied")
    assert not (clip.parent / "large").exists()


@pytest.mark.parametrize("way", ["plain", "dots", "symlink"])
def test_output_inside_the_work_directory(cli: Cli, clip: Path, quick: list[str], way: str) -> None:
    work, link = clip.parent / "work", clip.parent / "link"
    work.mkdir()
    link.symlink_to(work)
    output = {"plain": work, "dots": work / ".." / "work", "symlink": link}[way] / "out.mp4"
    result = cli("upscale", clip, output, *quick, "--work-dir", work)
    assert result.code == 2
    assert (
        result.error
        == f"the output {output} is in the work directory {work}: give another --work-dir"
    )
    assert not listing(work)


def test_work_directory_through_dots_and_links(cli: Cli, clip: Path, quick: list[str]) -> None:
    link = clip.parent / "link"
    link.symlink_to(clip.parent)
    work = link / ".." / clip.parent.name
    result = cli("upscale", clip, clip.with_name("out.mp4"), *quick, "--work-dir", work)
    assert result.code == 2
    assert "is in the work directory" in result.error
    assert names(clip.parent) == ["clip.mp4", "link"]


@pytest.mark.parametrize("other", ["Clip.MP4", "clip.mp4"])
def test_names_of_a_batch_that_are_one_on_many_systems(
    cli: Cli, clip: Path, quick: list[str], other: str
) -> None:
    (clip.parent / "b").mkdir()
    second = clip.parent / "b" / other
    shutil.copy(clip, second)
    result = cli("upscale", clip, second, clip.parent / "large", *quick)
    assert result.code == 2
    for word in (str(clip), str(second), "{number}"):
        assert word in result.error
    assert not (clip.parent / "large").exists()


def test_composed_and_decomposed_names_of_a_batch(cli: Cli, clip: Path, quick: list[str]) -> None:
    (clip.parent / "b").mkdir()
    composed, apart = (unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD"))
    one, other = clip.with_name(composed), clip.parent / "b" / apart
    shutil.copy(clip, one)
    clip.rename(other)
    assert cli("upscale", one, other, clip.parent / "large", *quick).code == 2


def test_names_of_a_batch_that_are_too_long(cli: Cli, clip: Path, quick: list[str]) -> None:
    template = "x" * 260 + "{number}.mp4"
    for output, options in (
        (clip.parent / ("y" * 300), []),
        (clip.parent / "large", ["--name-template", template]),
    ):
        result = cli("upscale", clip, clip, output, *quick, *options)
        assert result.code == 7, result.err
        assert "name too long" in result.error
    assert names(clip.parent) == ["clip.mp4"]
