"""What reaches the terminal of names and titles that somebody made up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from starvsr.cli.printing import printable
from tests.cli.conftest import Cli
from tests.media.clips import Clip, make

HOSTILE = "\x1b[31m\x1b]0;owned\x07 a\x9b5n\rb\u202ec\x7f"
SPELLED = r"\x1b[31m\x1b]0;owned\x07 a\x9b5n\rb\u202ec\x7f"


def test_what_is_spelled_out() -> None:
    assert printable(HOSTILE) == SPELLED
    assert (
        printable("tab\tand\nline, naïve ☃ 👩\u200d🚀, עברית")
        == "tab\tand\nline, naïve ☃ 👩\u200d🚀, עברית"
    )
    assert printable(os.fsdecode(b"a\xff.mp4")) == r"a\udcff.mp4"
    assert printable("naïve ☃", "latin-1") == r"naïve \u2603"


def test_titles_of_a_file(cli: Cli, tmp_path: Path) -> None:
    clip = Clip(
        frames=1,
        subtitles=(("subrip", 0, 1, "text"),),
        attachments=((f"{HOSTILE}\nvideo none", "application/x-truetype-font", b"font"),),
        metadata={"title": HOSTILE},
    )
    result = cli("info", make(tmp_path / "a.mkv", clip))
    assert result.code == 0
    assert f"{SPELLED}\\nvideo none" in result.out
    assert "\x1b" not in result.out
    as_json = json.loads(cli("info", "--json", tmp_path / "a.mkv").out)
    assert HOSTILE in as_json["streams"][-1]["detail"]


def test_megabytes_of_a_title(cli: Cli, tmp_path: Path) -> None:
    clip = Clip(frames=1, attachments=(("x" * 3_000_000, "application/x-truetype-font", b"font"),))
    result = cli("info", make(tmp_path / "a.mkv", clip))
    assert result.code == 0
    assert len(result.out) < 10_000


@pytest.mark.parametrize(
    "name", [f"{HOSTILE}.mp4", os.fsdecode(b"a\xff\xfe.mp4"), "a\nerror: b.mp4"]
)
def test_names_of_files(cli: Cli, tmp_path: Path, quick: list[str], name: str) -> None:
    source, missing = tmp_path / name, tmp_path / f"no {name}"
    make(tmp_path / "a.mp4", Clip(frames=1)).rename(source)
    for command in (
        ["info", source],
        ["plan", source, *quick],
        ["upscale", source, source.with_name(f"out{name}"), *quick],
    ):
        result = cli(*command)
        assert result.code == 0, result.err
        assert printable(result.out + result.err) == result.out + result.err
    refused = cli("upscale", missing, tmp_path / "out.mp4", *quick)
    assert refused.code == 3
    assert " does not exist" in refused.error
    assert printable(refused.err) == refused.err


def test_an_option_with_line_ends(cli: Cli, clip: Path) -> None:
    assert cli("upscale", clip, "out.mp4", "--scale", "a\nerror: b\x1b[2J").code == 2
