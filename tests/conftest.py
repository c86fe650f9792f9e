"""Shared by all tests: small model files, and facts about a video for pure planning."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

# As the command line does, and before torch is imported: tests must not crawl on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads of several processes would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that runs the tests in the background has Ctrl-C ignored, and what they start would ignore it too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import torch

from starvsr.media.priority import usual_priority
from starvsr.models.build import counted
from starvsr.models.unet import StarUNet
from starvsr.specs import NANO
from starvsr.types import (
    AutoencoderSpec,
    ColorInfo,
    DeviceInfo,
    ModelSpec,
    SizeRule,
    UNetConfig,
    VideoIndex,
    VideoInfo,
    WindowSpec,
)
from starvsr.zoo.load import save_model
from tests.golden.seeded_init import fill_module

# Results would otherwise depend on the CPU's units; the tests of `auto` say what they need.
os.environ.setdefault("STARVSR_PRECISION", "fp32")

CPU = DeviceInfo("cpu", "CPU", 1 << 34, 2)

TOY = counted(
    ModelSpec(
        name="seeded-toy",
        summary="STAR with control branch and guidance at toy size, seeded weights",
        licence="MIT",
        network=UNetConfig(
            latent_channels=12,
            width=32,
            multipliers=(1, 2),
            residual_blocks=1,
            head_width=16,
            first_heads=2,
            context_width=16,
            attention_scales=(0.5,),
            control=True,
        ),
        autoencoder=AutoencoderSpec(kind="pixel_unshuffle", factor=2),
        size_rule=SizeRule(multiple=2, height_remainder=0),
        min_size=(4, 4),
        start="noised",
        solver="dpmpp_2m_sde",
        noise_level=900,
        steps=15,
        cfg=7.5,
        cfg_rescale=0.2,
        upsampling="bilinear",
        color_fix="adain",
        windows=WindowSpec(
            chunk_frames=8, chunk_overlap=4, tile_height=None, tile_width=None, tile_overlap=4
        ),
        segment_frames=32,
        context_frames=2,
    )
)
"""A model that uses everything nano does not: noise, steps, guidance, control branch, temporal overlap."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was captured may hold names that are no text, and processes of tests send each other text only."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a seeded model that runs every step of the pipeline in milliseconds."""
    path = tmp_path_factory.mktemp("models") / "toy.safetensors"
    save_model(path, TOY, fill_module(StarUNet(TOY.network), 0).state_dict())
    return path


@pytest.fixture(autouse=True)
def _no_weights_of_the_user(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARVSR_WEIGHTS", str(tmp_path_factory.getbasetemp() / "no-weights"))
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path_factory.getbasetemp() / "no-comfyui"))


@pytest.fixture(autouse=True)
def _usual_priority() -> Iterator[None]:
    # Clips that a test encodes by SVT-AV1 would leave its real-time priority to every test that follows.
    with usual_priority():
        yield


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For pictures so small that they only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Small networks gain nothing from threads, and lose much on a machine that does something else too.
    torch.set_num_threads(1)


def video_info(width: int = 175, height: int = 99, **changes: object) -> VideoInfo:
    """What a probe would say of a plain 25 frames per second clip."""
    info = VideoInfo(
        path=Path("in.mp4"),
        container="mov,mp4,m4a,3gp,3g2,mj2",
        stream_index=0,
        codec="h264",
        pix_fmt="yuv420p",
        bit_depth=8,
        width=width,
        height=height,
        rotation=0,
        sample_aspect=Fraction(1),
        time_base=Fraction(1, 12800),
        frame_rate=Fraction(25),
        duration_s=4.0,
        header_frames=100,
        interlaced=False,
        color=ColorInfo(),
        streams=(),
    )
    return dataclasses.replace(info, **changes)  # type: ignore[arg-type]


def video_index(frames: int = 100, *, cuts: tuple[int, ...] = (), first_pts: int = 0) -> VideoIndex:
    """The index of a constant 25 frames per second clip at 1/12800 s a tick."""
    pts = tuple(first_pts + 512 * number for number in range(frames))
    return VideoIndex(pts, (512,) * frames, pts[:1], cuts)


__all__ = ["CPU", "NANO", "TOY", "video_index", "video_info"]
