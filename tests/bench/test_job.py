"""The clip that jobs are measured on, and a job on it."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import pytest

from starvsr.bench.job import measure_job, write_clip
from starvsr.options import SamplingOptions, SizeOptions, UpscaleOptions

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_clip_moves_and_has_sound(tmp_path: Path) -> None:
    path, again = tmp_path / "a.mp4", tmp_path / "b.mp4"
    write_clip(path, (64, 36), 5)
    write_clip(again, (64, 36), 5)
    assert path.read_bytes() == again.read_bytes()
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert container.streams.audio[0].duration
    assert len(frames) == 5
    assert frames[0].shape == (36, 64)
    for before, behind in itertools.pairwise(frames):
        assert abs(before.astype(int) - behind).mean() > 2


def test_a_job(toy_path: Path) -> None:
    options = UpscaleOptions(
        model=str(toy_path), size=SizeOptions(scale=1), sampling=SamplingOptions(steps=1)
    )
    found = measure_job((64, 36), 3, options)
    assert (found.input_size, found.output_size, found.frames) == ((64, 36), (64, 36), 3)
    assert found.wall_s > sum(found.seconds.values()) > 0
    assert found.seconds_per_frame == found.wall_s / 3
    assert 0 < found.network_share < 1
    assert found.peak_bytes > 2**26
