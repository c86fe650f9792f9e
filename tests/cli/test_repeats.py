"""`--repeats`, as it is typed and said."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest

from tests.cli.conftest import Cli
from tests.media.clips import Clip, make, showing

SHOWN = (0, 0, 0, 1, 2, 2, 3, 3, 4, 4)
SAID = "note: frames to restore: 5 of 10; the others repeat the one before (--repeats off restores all)"


@pytest.fixture
def held(tmp_path: Path) -> Path:
    fill = showing(*SHOWN)
    clip = Clip(frames=len(SHOWN), width=32, height=24, codec="ffv1", fill=fill)
    return make(tmp_path / "held.mkv", clip)


def pictures(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def test_repeats_are_said_and_held(cli: Cli, tmp_path: Path, held: Path, quick: list[str]) -> None:
    out = tmp_path / "out.mkv"
    result = cli("upscale", held, out, *quick, "--codec", "ffv1", "--json")
    assert result.code == 0 and SAID in result.err
    assert json.loads(result.out.splitlines()[-1])["frames"] == 10
    made = pictures(out)
    assert [made.index(frame) for frame in made] == [SHOWN.index(number) for number in SHOWN]
    result = cli("upscale", held, out, *quick, "--codec", "ffv1", "--repeats", "off", "-y")
    assert result.code == 0 and "others repeat" not in result.err
    assert len(set(pictures(out))) == 10


def test_plans_count_pictures(cli: Cli, held: Path, quick: list[str]) -> None:
    plan = json.loads(cli("plan", held, *quick, "--json").out)["plan"]
    assert (plan["frames"], plan["pictures"], plan["repeats"]) == (10, 5, 5)
    assert [segment["pictures"] for segment in plan["segments"]] == [5]
    off = json.loads(cli("plan", held, *quick, "--json", "--repeats", "off").out)["plan"]
    assert (off["pictures"], off["repeats"]) == (10, 0)
    part = cli("plan", held, *quick, "--start", "0.04", "--end", "0.24", "--repeats", "near").out
    said = "3 of 5; the others repeat, but for traces of compression, the one before"
    assert said in part
    assert "others repeat" not in cli("plan", held, *quick, "--frames", "1").out


def test_values_that_cannot_be(cli: Cli, held: Path, quick: list[str]) -> None:
    result = cli("plan", held, *quick, "--repeats", "twice")
    assert result.code == 2 and "--repeats" in result.error
    result = cli("plan", held, *quick, "--parity", "--repeats", "near")
    assert result.code == 2
    assert "--parity and --repeats near contradict each other: leave one out" in result.error


def test_parity_restores_every_frame(cli: Cli, held: Path, quick: list[str]) -> None:
    """As the published code does, which knows of no repeats."""
    for more in ((), ("--repeats", "exact")):
        plan = json.loads(cli("plan", held, *quick, "--parity", "--json", *more).out)["plan"]
        assert (plan["pictures"], plan["repeats"]) == (10, 0)


def test_jobs_and_tags_take_it(cli: Cli, tmp_path: Path, held: Path, quick: list[str]) -> None:
    jobs = tmp_path / "jobs.toml"
    jobs.write_text('[[job]]\ninput = "held.mkv"\noutput = "out.mkv"\nrepeats = "near"\n')
    assert cli("upscale", "--jobs", jobs, *quick).code == 0
    assert b"--repeats near" in (tmp_path / "out.mkv").read_bytes()
    assert cli("upscale", held, tmp_path / "usual.mkv", *quick).code == 0
    assert b"--repeats" not in (tmp_path / "usual.mkv").read_bytes()


def test_previews_hold_too(cli: Cli, tmp_path: Path, held: Path, quick: list[str]) -> None:
    result = cli("upscale", held, tmp_path / "p.mkv", *quick, "--preview", "0.2", "--at", "0.08")
    assert result.code == 0 and "frames to restore: 4 of 5" in result.err
