"""The programs of examples/, run as a user would run them, on clips that take milliseconds."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import starvsr
from tests.cli.conftest import listing
from tests.media.clips import Clip, make

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.sh"))

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shell scripts")


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """In which `starvsr` is this one."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "starvsr"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m starvsr "$@"\n')
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def quick(toy_path: Path) -> list[str]:
    return ["--model", str(toy_path), "--scale", "1", "--steps", "1", "--cfg", "1"]


def script(
    name: str, *arguments: str | Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    command = [str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def clip(path: Path, frames: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return make(path, Clip(frames=frames, width=32, height=24))


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_programs_without_arguments_say_how_they_are_used(name: str) -> None:
    found = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith(f"usage: python examples/{name} INPUT ")
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    command = shutil.which("shellcheck", path=Path(sys.executable).parent)
    assert command, "pip install '.[dev]' brings shellcheck"
    found = subprocess.run([command, path], capture_output=True, text=True, check=False)
    assert found.stdout == ""
    assert found.returncode == 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_without_arguments_they_say_how_they_are_used(
    path: Path, environment: dict[str, str]
) -> None:
    result = script(path.name, environment=environment)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ")
    assert os.access(path, os.X_OK)
    assert path.name in (EXAMPLES / "README.md").read_text()


@pytest.mark.slow
def test_a_series_with_a_broken_episode(
    tmp_path: Path, environment: dict[str, str], quick: list[str]
) -> None:
    series = tmp_path / "my [series]"
    clip(series / "season 1" / "a.mp4")
    broken = series / "season 1" / "b.mkv"
    broken.write_bytes(b"no video")
    clip(series / ".trash" / "c.mkv")
    large = series / "large"

    def run() -> subprocess.CompletedProcess[str]:
        return script("upscale-folder.sh", series, large, *quick, environment=environment)

    result = run()
    assert result.returncode == 6, result.stderr
    made = ["season 1", "season 1/a.mp4", "starvsr.log"]
    assert sorted(listing(large)) == made
    assert "b.mkv is not a media file" in (large / "starvsr.log").read_text()
    clip(broken)
    result = run()
    assert result.returncode == 0, result.stderr
    assert sorted(listing(large)) == sorted([*made, "season 1/b.mkv"])
    assert result.stderr.count("already exists") == 1


@pytest.mark.slow
def test_settings_side_by_side(
    tmp_path: Path, environment: dict[str, str], quick: list[str]
) -> None:
    video = clip(tmp_path / "film.mkv", 10)
    base = " ".join(quick)
    settings = [f"--sharpen 0.5 {base}", f"--sharpen -0.5 {base}"]
    result = script(
        "preview-settings.sh",
        video,
        tmp_path / "out",
        "0.1",
        "0.2",
        *settings,
        environment=environment,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    for line, setting in zip(lines, settings, strict=True):
        facts = line.removeprefix(setting).split()
        assert facts[:2] == ["whole", "video:"]
        assert float(facts[2]) >= 0
        assert (facts[3], facts[5]) == ("s", "MB")
        assert Path(line.split("MB   ")[1]).is_file()
    assert sum(name.endswith("-preview.png") for name in listing(tmp_path / "out")) == 2
    result = script(
        "preview-settings.sh",
        video,
        tmp_path / "out",
        "0.1",
        "9",
        *settings,
        environment=environment,
    )
    assert (result.returncode, result.stdout) == (2, ""), "the first mistake ends it"


@pytest.mark.slow
def test_two_machines_share_a_folder(
    tmp_path: Path, environment: dict[str, str], quick: list[str]
) -> None:
    names = [f"{number}.mkv" for number in range(3)]
    for name in names:
        clip(tmp_path / "in" / name)
    # Neither a poster nor a note is a video.
    (tmp_path / "in" / "0.jpg").write_bytes(b"poster")
    (tmp_path / "in" / "1.txt").write_text("note")
    out = tmp_path / "out"
    # One that this machine left when it crashed, and one of another machine's.
    for name, owner in (("0.mkv", f"{os.uname().nodename}.999999999"), ("1.mkv", "elsewhere.1")):
        (out / ".claims" / name).mkdir(parents=True)
        (out / ".claims" / name / owner).touch()
    command = [str(EXAMPLES / "parallel-machines.sh"), str(tmp_path / "in"), str(out), *quick]
    runs = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    said = "".join(run.communicate()[1] for run in runs)
    assert [run.returncode for run in runs] == [0, 0], said
    assert sorted(listing(out)) == [
        ".claims",
        ".claims/1.mkv",
        ".claims/1.mkv/elsewhere.1",
        *(name for name in names if name != "1.mkv"),
    ]
    assert said.count("2 frames in") == 2, "nothing was done twice"
    assert "others are at work on" in said


@pytest.mark.slow
def test_videos_of_one_stem_stay_two_and_the_place_of_the_output_is_free(
    tmp_path: Path, environment: dict[str, str], quick: list[str]
) -> None:
    folder = tmp_path / "a" / "b"
    clip(folder / "x.mkv")
    clip(folder / "x.avi")
    for name, made in (
        ("parallel-machines.sh", ["x.avi.mkv", "x.mkv.mkv"]),
        ("upscale-folder.sh", ["starvsr.log", "x.mkv"]),
    ):
        result = script(name, folder, tmp_path / name, *quick, environment=environment)
        # The program names two videos alike, and says so.
        assert result.returncode == (0 if name.startswith("p") else 6), result.stderr
        assert sorted(listing(tmp_path / name)) == made
    for name, output, code in (
        ("upscale-folder.sh", tmp_path / "a", 2),
        ("parallel-machines.sh", folder, 2),
        ("upscale-folder.sh", folder, 6),
    ):
        result = script(name, folder, output, *quick, environment=environment)
        assert result.returncode == code, result.stderr
        assert not (output / "x.avi.mkv").exists()


@pytest.mark.slow
def test_a_machine_that_is_terminated_leaves_its_video_to_others(
    tmp_path: Path, environment: dict[str, str], quick: list[str]
) -> None:
    clip(tmp_path / "in" / "long.mkv", 400)
    out = tmp_path / "out"
    options = [*quick, "--segment-frames", "8"]
    command = [str(EXAMPLES / "parallel-machines.sh"), str(tmp_path / "in"), str(out), *options]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    journal = out / "long.mkv.starvsr" / "journal.jsonl"
    while run.poll() is None and not (journal.exists() and "core-0" in journal.read_text()):
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    said = run.communicate()[1]
    assert run.returncode == 143, said
    assert sorted(path.name for path in out.iterdir()) == [".claims", "long.mkv.starvsr"]
    assert list((out / ".claims").iterdir()) == []


def program(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / name))


@pytest.mark.usefixtures("one_thread")
def test_frames_through_opencv(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    source, target = clip(tmp_path / "in.mp4", 11), tmp_path / "out.mp4"
    main = program("opencv_loop.py")["main"]
    main(str(source), str(target))
    made, given = (cv2.VideoCapture(str(path)) for path in (target, source))
    for _ in range(11):
        (_, large), (is_there, small) = made.read(), given.read()
        assert large.shape == (48, 64, 3)
        # The same colours in the same order, but for the codec.
        assert is_there
        assert abs(cv2.resize(large, (32, 24)).astype(float) - small).mean() < 12
    assert not made.read()[0]
    with pytest.raises(SystemExit, match=r"^error: OpenCV cannot open .*no\.mp4"):
        main(str(tmp_path / "no.mp4"), str(target))


@pytest.mark.usefixtures("one_thread")
def test_frames_through_pyav(tmp_path: Path) -> None:
    pts = [0, 512, 1024, 3000, 3512, 4024, 4536, 5048, 5560, 6072, 9000]
    source = make(tmp_path / "in.mp4", Clip(frames=11, width=32, height=24, pts=pts))
    target = tmp_path / "out.mkv"
    program("pyav_loop.py")["main"](str(source), str(target))
    with av.open(str(target)) as made, av.open(str(source)) as given:
        pairs = zip(made.decode(video=0), given.decode(video=0), strict=True)
        for number, (large, small) in enumerate(pairs):
            assert (large.width, large.height) == (64, 48)
            assert large.time == pytest.approx(pts[number] / 12800, abs=1e-3)
            reduced = large.reformat(32, 24, "rgb24", interpolation="AREA").to_ndarray()
            assert abs(reduced.astype(float) - small.to_ndarray(format="rgb24")).mean() < 12


@pytest.mark.usefixtures("one_thread")
def test_frames_through_vapoursynth() -> None:
    vs = pytest.importorskip("vapoursynth", reason="VapourSynth (Python 3.12) is not installed")
    plain = vs.core.std.BlankClip(format=vs.RGBS, width=32, height=24, length=20)

    def fill(n: int, f: Any) -> Any:
        frame = f.copy()
        for plane in range(3):
            np.asarray(frame[plane])[:] = np.linspace(0, 1, 32) * (n + plane) / 22
        return frame

    given = plain.std.ModifyFrame(plain, fill)
    upscaled = program("vapoursynth_filter.py")["upscaled"]

    def pictures(clip: Any) -> list[Any]:
        return [
            np.stack([np.asarray(plane) for plane in frame], axis=-1) for frame in clip.frames()
        ]

    wanted = list(starvsr.Restorer.from_name("nano").stream(iter(pictures(given)), scale=2))
    result = upscaled(given, scale=2)
    assert all(map(np.array_equal, pictures(result), wanted))
    # A jump backwards.
    assert np.array_equal(np.asarray(result.get_frame(0)[0]), wanted[0][..., 0])
    with pytest.raises(vs.Error, match="only clips of RGBS"):
        upscaled(given.resize.Bicubic(format=vs.RGB24))
