"""What identifies a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from starvsr.job.plan_job import plan_video
from starvsr.job.request import request_of
from starvsr.options import EncodeOptions, SizeOptions, UpscaleOptions
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
            request_of(source, target, job.choice, job.device, job.plan.precision, job.options)
        )
    usual, other = (request["options"] for request in requests)
    assert {name for name in usual if usual[name] != other[name]} == {flag}
