"""Names of colour codes: those of ffprobe."""

from __future__ import annotations

import dataclasses

import pytest

from starvsr.media.color_names import color_names
from starvsr.types import ColorInfo


@pytest.mark.parametrize(
    ("color", "names"),
    [
        (ColorInfo(), {}),
        (ColorInfo(1, 2, 1, 1, 2), {"range": "pc", "chroma_location": "center"}),
        (
            ColorInfo(0, 1, 9, 18),
            {"matrix": "gbr", "primaries": "bt2020", "transfer": "arib-std-b67"},
        ),
        (ColorInfo(5, 1, 22, 13), {"matrix": "bt470bg", "primaries": "ebu3213"}),
        (ColorInfo(3, 0, 99, 0), {"matrix": "3", "primaries": "99", "transfer": "0"}),
    ],
)
def test_names(color: ColorInfo, names: dict[str, str]) -> None:
    found = color_names(color)
    assert found | names == found
    assert set(found) == {field.name for field in dataclasses.fields(ColorInfo)}
    unsaid = [name for name, value in found.items() if value == "unspecified"]
    usual = ColorInfo()
    assert unsaid == [name for name in found if getattr(color, name) == getattr(usual, name)]
