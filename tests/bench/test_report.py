"""A result as text."""

from __future__ import annotations

import json

from starvsr.bench.job import JobTime
from starvsr.bench.machine import Ceilings, Seconds
from starvsr.bench.network import Layer, NetworkCall
from starvsr.bench.report import Result, as_text


def test_a_clock_too_coarse_for_processor_time() -> None:
    """As that of Windows: short work took none, so its wall time counts."""
    call = NetworkCall(10**9, Seconds(wall=0.004, processor=0.0), (1, 8, 8), 0)
    layers = (
        Layer(10**9, Seconds(wall=0.003, processor=0.0), "first"),
        Layer(0, Seconds(wall=0.001, processor=0.0), "the rest"),
    )
    job = JobTime("nano", (64, 36), (256, 144), 2, 1.0, 1.0, {"network": 0.5}, 2**20)
    result = Result("nano", Ceilings(100, 500, 10), (call,), layers, job).to_json()
    text = as_text(result, json.loads(json.dumps(result)))
    assert "3.00 ms   75.0%" in text
    assert "latent of 1x8x8: 1.00x the seconds" in text
