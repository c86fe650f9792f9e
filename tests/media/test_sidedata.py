"""What frames carry, without what PyAV cannot list."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type
from PIL import ExifTags, Image

from starvsr.media.sidedata import has_any, side_data_of


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_frames_of_png_are_listed_without_what_pyav_must_not_see(tmp_path: Path, mode: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new(mode, (16, 8), 3).save(tmp_path / "a.png", exif=exif)
    with av.open(tmp_path / "a.png") as container:
        frame = next(container.decode(video=0))
    with pytest.raises(ValueError, match="may have side data that PyAV must not list"):
        has_any(frame, (Type.AFD,))
    assert [side.type for side in side_data_of(frame)] == [Type.DISPLAYMATRIX]
