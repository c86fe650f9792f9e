from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type
from PIL import ExifTags, Image, ImageCms

from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.sidedata import has_any, side_data_of


def with_profile(path: Path, mode: str = "RGB", turn: int = 6) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new(mode, (16, 8), 3).save(path, icc_profile=profile, exif=exif)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_named_colour_profile_is_left_to_the_frame(tmp_path: Path, mode: str) -> None:
    with av.open(with_profile(tmp_path / "a.png", mode)) as container:
        frame = next(container.decode(video=0))
    with pytest.raises(ValueError, match="may have a named colour profile"):
        has_any(frame, (Type.AFD,))
    assert [side.type for side in side_data_of(frame)] == [Type.DISPLAYMATRIX]


def test_numbered_images_with_colour_profiles_are_read(tmp_path: Path) -> None:
    for number in range(3):
        with_profile(tmp_path / f"{number}.png", turn=1)
    info = probe(tmp_path / "%d.png")
    assert (info.width, info.height) == (16, 8)
    assert build_index(info).frames == 3
