"""The contact sheet: where its crops are, and what stands where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from starvsr.tune.sheet import busiest, write_sheet
from tests.metrics.pictures import noise


def test_crops_are_where_there_is_detail_and_do_not_overlap() -> None:
    picture = np.full((90, 160, 3), 20000, np.uint16)
    picture[60:80, 20:50] += (noise(20, 30) * 100).astype(np.uint16)[..., None]
    picture[10:30, 110:140] += (noise(20, 30) * 20).astype(np.uint16)[..., None]
    first, second, third = busiest(picture, 0.4, 0.3, 3)
    for (top, left, bottom, right), (y, x) in ((first, (70, 35)), (second, (20, 125))):
        assert top <= y / 90 <= bottom
        assert left <= x / 160 <= right
    for one, other in ((first, second), (first, third), (second, third)):
        assert any(one[i] >= other[i + 2] - 1e-6 or other[i] >= one[i + 2] - 1e-6 for i in (0, 1))
    assert busiest(picture, 1.0, 1.0, 3) == [(0.0, 0.0, 1.0, 1.0)]


def test_columns_show_the_same_part(tmp_path: Path) -> None:
    before = np.zeros((120, 100, 3), np.uint16)
    before[..., 0] = 65535
    green = np.zeros((480, 400, 3), np.uint16)
    green[..., 1] = 65535
    blue = np.zeros((240, 200, 3), np.uint16)
    blue[..., 2] = 65535
    write_sheet(tmp_path / "sheet.png", before, [("one", green), ("another", blue)])
    with Image.open(tmp_path / "sheet.png") as picture:
        sheet = np.asarray(picture)
    width = sheet.shape[1] // 3
    # The middle of the whole frames, and of the first crops.
    for row, column in ((150, 130), (26 + 324 + 60, 80)):
        colours = [tuple(sheet[row, number * width + column].tolist()) for number in range(3)]
        assert colours == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
