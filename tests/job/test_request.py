"""What identifies a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from starvsr.errors import WorkDirError
from starvsr.job.journal import fingerprint
from starvsr.job.plan_job import plan_video
from starvsr.job.request import request_of, source_print
from starvsr.job.run import upscale_video
from starvsr.options import EncodeOptions, SamplingOptions, SizeOptions, UpscaleOptions
from starvsr.plan.speed import SpeedSet
from starvsr.types import Progress
from tests.media.clips import Clip, make
from tests.media.stills import save


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (UpscaleOptions(size=SizeOptions(model_scale=2)), "--model-scale"),
        (UpscaleOptions(encode=EncodeOptions(extra=(("quality", "80"),))), "-e"),
    ],
)
def test_what_changes_a_picture_is_another_job(
    tmp_path: Path, options: UpscaleOptions, flag: str
) -> None:
    source, target = save(tmp_path / "a.png"), tmp_path / "b.jpg"
    requests = []
    for each in (UpscaleOptions(model="nano"), options):
        job = plan_video(source, target, each)
        requests.append(
            request_of(
                source,
                target,
                job.choice,
                job.device,
                job.plan.precision,
                job.options,
                job.settings,
            )
        )
    usual, other = (request["options"] for request in requests)
    assert {name for name in usual if usual[name] != other[name]} == {flag}


def test_an_edit_that_keeps_the_size_is_another_input(tmp_path: Path) -> None:
    """As of a raw video of which some frames were drawn again: most of its bytes are what they were."""
    path = tmp_path / "a.y4m"
    path.write_bytes(bytes(20 << 20))
    before, sampled = source_print(path), fingerprint(path)
    with path.open("r+b") as file:
        file.seek((20 << 20) // 63 + (1 << 17))
        file.write(b"drawn again")
    assert fingerprint(path) == sampled, "it reads blocks, which are elsewhere"
    assert source_print(path) != before
    path.rename(tmp_path / "copy.y4m")
    assert source_print(tmp_path / "copy.y4m") != before


@pytest.mark.parametrize(
    ("module", "name", "value", "said"),
    [
        ("media.encoder", "DEFAULT_PRESET", "medium", r"options was .*preset=veryfast.* and is .*preset=medium"),
        ("plan.settings", "DEFAULT_SOLVER_MODE", "normal", "solver mode was fast before and is normal now"),
        ("plan.speed", "SPEEDS", {"fast": SpeedSet()}, "chunk overlap was 1 before and is 4 now"),
    ],
)  # fmt: skip
def test_what_no_option_says_is_part_of_a_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    name: str,
    value: object,
    said: str,
) -> None:
    """Another version may have other defaults, and parts of both would be no video."""
    clip, target = make(tmp_path / "a.mkv", Clip(frames=2)), tmp_path / "b.mkv"
    sampling = SamplingOptions(steps=2, cfg=1.0, speed="fast")
    options = UpscaleOptions(model="toy", size=SizeOptions(scale=1), sampling=sampling)

    def stop(progress: Progress) -> None:
        if progress.stage == "join":
            raise KeyboardInterrupt

    def begin() -> None:
        with pytest.raises(KeyboardInterrupt):
            upscale_video(clip, target, options, progress=stop)

    begin()
    begin()
    monkeypatch.setattr(f"starvsr.{module}.{name}", value)
    with pytest.raises(WorkDirError, match=f"begun by another version of starvsr: .*{said}"):
        begin()
