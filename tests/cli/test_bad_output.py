"""Outputs that cannot be written: refused before any work, with the reason, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.conftest import Cli, listing


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is refused here is refused before weights are loaded and before the whole video is read."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("went on")

    monkeypatch.setattr("starvsr.job.executor.load_choice", refuse)
    monkeypatch.setattr("starvsr.job.plan_job.build_index", refuse)


def refused(cli: Cli, source: Path, output: Path, *options: str | Path) -> tuple[int, str]:
    before = listing(source.parent)
    result = cli("upscale", source, output, *options)
    assert result.out == ""
    assert listing(source.parent) == before
    return result.code, result.error


def test_existing_output(cli: Cli, clip: Path, quick: list[str]) -> None:
    output = clip.with_name("out.mp4")
    output.write_bytes(b"precious")
    code, message = refused(cli, clip, output, *quick)
    said = f"{output} exists already: give --overwrite to replace it"
    assert (code, message) == (7, f"{said}; if it is an input too, give a folder as the output")


def test_output_folder_is_missing(cli: Cli, clip: Path, quick: list[str]) -> None:
    folder = clip.with_name("no")
    code, message = refused(cli, clip, folder / "out.mp4", *quick)
    assert (code, message) == (7, f"the folder {folder} does not exist: make it first")


def test_output_folder_is_a_file(cli: Cli, clip: Path, quick: list[str]) -> None:
    assert refused(cli, clip, clip / "out.mp4", *quick)[0] == 7


def test_output_name_is_too_long(cli: Cli, clip: Path, quick: list[str]) -> None:
    code, message = refused(cli, clip, clip.with_name(f"{'x' * 300}.mp4"), *quick)
    assert code == 7
    assert "name too long" in message


@pytest.mark.parametrize("way", ["same", "relative", "symlink", "hard link"])
def test_output_is_the_input(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.chdir(clip.parent)
    output = {"same": clip, "relative": Path(clip.name)}.get(way, clip.with_name("link.mp4"))
    if way == "symlink":
        output.symlink_to(clip)
    elif way == "hard link":
        os.link(clip, output)
    code, message = refused(cli, clip, output, *quick, "--overwrite")
    assert (code, message) == (2, f"{output} is the input itself: give another output")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.avi", ["the extension .avi", ".mp4", ".mkv"]),
        ("out", ["without an extension", ".mp4", ".mkv"]),
        ("out.mp5", ["the extension .mp5", ".webm"]),
    ],
)
def test_unknown_extension(
    cli: Cli, clip: Path, quick: list[str], name: str, words: list[str]
) -> None:
    code, message = refused(cli, clip, clip.with_name(name), *quick)
    assert code == 7
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--codec", "libx999"], ["--codec libx999", "libx264"]),
        (["--codec", "aac"], ["--codec aac", "audio", "libx264"]),
        (["--pix-fmt", "yuv999p"], ["--pix-fmt yuv999p", "libx264", "yuv420p"]),
        (["-e", "no-such-option=1"], ["no-such-option", "libx264"]),
        (["--codec", "ffv1", "--preset", "fast"], ["--preset fast", "ffv1"]),
        (["--preset", "no-such-preset"], ["no-such-preset", "libx264"]),
    ],
)
def test_unknown_encoder_or_option_of_it(
    cli: Cli, clip: Path, quick: list[str], options: list[str], words: list[str]
) -> None:
    code, message = refused(cli, clip, clip.with_name("out.mkv"), *quick, *options)
    assert code == 7
    for word in words:
        assert word in message


def test_container_that_cannot_hold_the_codec(cli: Cli, clip: Path, quick: list[str]) -> None:
    code, message = refused(cli, clip, clip.with_name("out.webm"), *quick, "--codec", "libx264")
    assert code == 7
    for word in ("out.webm", "libx264", "--codec", ".mkv"):
        assert word in message


@pytest.mark.parametrize(
    ("name", "audio", "words"),
    [
        ("out.mkv", "mute", ["--audio mute is not an audio encoder", "copy, none", "aac"]),
        ("out.mkv", "libx264", ["--audio libx264 encodes video, not audio", "aac"]),
        ("out.webm", "aac", ["--audio aac", "stream 1", ".webm", "--audio libopus, copy or none"]),
    ],
)
def test_sound_that_cannot_be_encoded(
    cli: Cli, clip: Path, quick: list[str], name: str, audio: str, words: list[str]
) -> None:
    code, message = refused(cli, clip, clip.with_name(name), *quick, "--audio", audio)
    assert code == 7
    for word in words:
        assert word in message


def test_missing_model_file(cli: Cli, clip: Path) -> None:
    code, message = refused(cli, clip, clip.with_name("out.mp4"), "--model", "no.safetensors")
    assert code == 4
    for word in ("--model no.safetensors", "auto", "nano", "path"):
        assert word in message


def test_corrupt_model_file(cli: Cli, clip: Path, toy_path: Path) -> None:
    broken = clip.with_name("broken.safetensors")
    broken.write_bytes(toy_path.read_bytes()[:100_000])
    code, message = refused(cli, clip, clip.with_name("out.mp4"), "--model", broken)
    assert code == 4
    assert message.startswith(f"{broken} cannot be read as a safetensors file")


def test_safetensors_of_something_else(cli: Cli, clip: Path) -> None:
    other = clip.with_name("other.safetensors")
    save_file({"weight": torch.zeros(3)}, other)
    code, message = refused(cli, clip, clip.with_name("out.mp4"), "--model", other)
    assert code == 4
    assert message.startswith(f"{other} is not a known model")


def test_device_that_is_not_there(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, message = refused(cli, clip, clip.with_name("out.mp4"), *quick, "--device", "cuda")
    assert code == 2
    for word in ("--device cuda", "0 CUDA devices", "cpu"):
        assert word in message
