"""Which videos belong together, and what is said where one is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from starvsr.errors import InputError
from starvsr.evaluate.pairs import ClipPair, find_pairs


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def manifest(folder: Path, text: str) -> Path:
    path = folder / "clips.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_two_files() -> None:
    assert find_pairs(Path("x/a.mkv"), Path("b.mp4")) == [
        ClipPair("a", Path("x/a.mkv"), Path("b.mp4"))
    ]
    assert find_pairs(Path("a.mkv")) == [ClipPair("a", Path("a.mkv"))]


def test_two_folders_by_name_whatever_the_extension(tmp_path: Path) -> None:
    results, originals = tmp_path / "r", tmp_path / "o"
    touch(
        results / "b.mkv",
        results / "a.MP4",
        results / "notes.txt",
        originals / "a.mov",
        originals / "b.mkv",
    )
    assert find_pairs(results, originals) == [
        ClipPair("a", results / "a.MP4", originals / "a.mov"),
        ClipPair("b", results / "b.mkv", originals / "b.mkv"),
    ]
    assert [pair.reference for pair in find_pairs(results)] == [None, None]


def test_a_video_without_its_partner_is_named(tmp_path: Path) -> None:
    results, originals = tmp_path / "r", tmp_path / "o"
    touch(results / "a.mkv", results / "b.mkv", originals / "a.mkv")
    with pytest.raises(
        InputError, match=r"r/b\.mkv has no reference: there is no video b\.\* in .*/o"
    ):
        find_pairs(results, originals)
    touch(originals / "b.mkv", originals / "c.mkv")
    with pytest.raises(
        InputError, match=r"o/c\.mkv has no result: there is no video c\.\* in .*/r"
    ):
        find_pairs(results, originals)


def test_folders_that_make_no_sense(tmp_path: Path) -> None:
    results = tmp_path / "r"
    touch(
        results / "a.mkv",
        tmp_path / "o" / "readme.txt",
        tmp_path / "twins" / "a.mkv",
        tmp_path / "twins" / "a.mp4",
    )
    with pytest.raises(InputError, match="o contains no video: none of its files"):
        find_pairs(results, tmp_path / "o")
    with pytest.raises(InputError, match="twins has 2 clips named a: give each its own name"):
        find_pairs(tmp_path / "twins")
    with pytest.raises(
        InputError, match=r"r is a folder and .*a\.mkv is not: give two videos or two folders"
    ):
        find_pairs(results, results / "a.mkv")
    with pytest.raises(InputError, match=r"r is a folder and .*a\.mkv is not"):
        find_pairs(results / "a.mkv", results)


def test_a_manifest(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        '[[clip]]\nresult = "out/a.mkv"\nreference = "gt/a.mp4"\ngroup = "light"\n'
        '[[clip]]\nname = "second"\nresult = "b.mkv"\n',
    )
    assert find_pairs(path) == [
        ClipPair("a", tmp_path / "out/a.mkv", tmp_path / "gt/a.mp4", "light"),
        ClipPair("second", tmp_path / "b.mkv"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip = 3", "is not a manifest: it must consist of"),
        ("", "is not a manifest: it must consist of"),
        ("clip = []", "is not a manifest: it must consist of"),
        ("[[clip]\n", "is not TOML: "),
        ('[[clip]]\nreference = "a"\n', "clip 1 has no result"),
        (
            '[[clip]]\nresult = "a"\n[[clip]]\nresult = 7\n',
            "result of clip 2 is 7: give text in quotes",
        ),
        (
            '[[clip]]\nresult = "a"\nrefrence = "b"\n',
            "clip 1 has the unknown key refrence: allowed are name, ",
        ),
        ('[[clip]]\nresult = "a.mkv"\n[[clip]]\nresult = "x/a.mkv"\n', "2 clips named a"),
        ('[[clip]]\nresult = "a"\n[other]\n', "is not a manifest: it must consist of"),
    ],
)
def test_a_manifest_that_says_something_else(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_pairs(manifest(tmp_path, text))


def test_the_same_name_in_two_groups_is_two_clips(tmp_path: Path) -> None:
    text = "".join(
        f'[[clip]]\nresult = "{group}/a.mkv"\ngroup = "{group}"\n' for group in ("x", "y")
    )
    assert [pair.group for pair in find_pairs(manifest(tmp_path, text))] == ["x", "y"]


def test_a_manifest_that_is_not_there_or_has_a_reference_beside_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clips\.toml does not exist: check the name"):
        find_pairs(tmp_path / "clips.toml")
    with pytest.raises(
        InputError, match=r"is a manifest, which names its references: leave out b\.mp4"
    ):
        find_pairs(tmp_path / "clips.toml", Path("b.mp4"))
