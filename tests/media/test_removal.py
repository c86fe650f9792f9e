"""What may go: regular files and never links; and no other module removes, cuts off or writes over anything."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import starvsr
from starvsr.media.files import complete_or_absent, open_regular, write_whole
from starvsr.media.removal import (
    Right,
    cut_file,
    put_in_place,
    remove_file,
    remove_folder,
    remove_tree,
    write_over,
)

SOURCE = Path(starvsr.__file__).parent

_METHODS = {
    "unlink",
    "rmdir",
    "rename",
    "replace",
    "write_text",
    "write_bytes",
    "touch",
    "truncate",
}
_FUNCTIONS = {
    *("rmtree", "move", "copy", "copy2", "copyfile", "copytree"),
    *("remove", "removedirs", "renames", "ftruncate"),
}
_OWNERS = {"os", "shutil"}
# Modules that write something else than a file of the user's.
_ALLOWED = {
    ("media/removal.py", None): "it is the one that may",
    ("bench/machine.py", "write_text"): "a switch of the kernel's",
    ("bench/report.py", "open a"): "a line is added to the file that was named for it",
    ("zoo/hub.py", "open ab"): "a download goes on in its own partial file, and through no link",
    ("train/log.py", "open a"): "lines are added to the file that was just written whole",
}


def found_in(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of every call that may remove, cut off or write over a file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr == "O_TRUNC":
            yield node.lineno, node.attr
        if isinstance(node, ast.Call):
            yield from ((node.lineno, name) for name in _named(node))


def _named(node: ast.Call) -> Iterator[str]:
    """What a call may do to a file that is there."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    owner = getattr(getattr(node.func, "value", None), "id", "")
    if name == "open" and owner != "av":
        yield from (f"open {mode}" for mode in _modes(node) if "x" not in mode)
    elif owner in _OWNERS:
        yield from {name} & (_METHODS | _FUNCTIONS)
    elif owner != "dataclasses" and _takes_paths(name, node):
        yield from {name} & _METHODS


def _modes(node: ast.Call) -> set[str]:
    """Modes of writing among the arguments: short words, as no name of a file is."""
    texts = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
    modes = {text for text in texts if isinstance(text, str) and 0 < len(text) <= 3}
    return {mode for mode in modes if set(mode) <= set("rwaxbt+") and set(mode) & set("wa+")}


def _takes_paths(name: str, node: ast.Call) -> bool:
    """`replace` of texts takes two, that of files one; that of dataclasses and parameters takes names."""
    return name != "replace" or (len(node.args) == 1 and not node.keywords)


def test_no_other_module_removes_or_writes_over_anything() -> None:
    strange = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if (name, None) in _ALLOWED:
            continue
        for line, call in found_in(path.read_text(encoding="utf-8")):
            if (name, call) not in _ALLOWED:
                strange.append(f"{name}:{line} {call}")
    assert strange == []


@pytest.mark.parametrize(
    "code",
    [
        "path.unlink()",
        "path.unlink(missing_ok=True)",
        "folder.rmdir()",
        "a.replace(b)",
        "a.rename(b)",
        "os.replace(a, b)",
        "os.remove(a)",
        "os.truncate(a, 0)",
        "os.ftruncate(1, 0)",
        "shutil.rmtree(a)",
        "shutil.move(a, b)",
        "open(a, 'w')",
        "open(a, mode='wb')",
        "a.open('r+b')",
        "a.open('ab')",
        "a.open('rb' if old else 'wb')",
        "os.open(a, os.O_TRUNC)",
        "a.write_text('')",
        "a.write_bytes(b'')",
    ],
)
def test_what_would_be_found(code: str) -> None:
    assert len([*found_in(code)]) == 1


def test_what_would_not() -> None:
    code = "a.open('rb'); open(a); a.open('x'); 'a'.replace('b', 'c'); dataclasses.replace(a, b=1)"
    assert [*found_in(code)] == []


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A link to a file."""
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    return tmp_path / "link"


def test_links_folders_and_pipes_stay(tmp_path: Path, link: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "nothing"):
        assert not remove_file(tmp_path / name, Right.FORM)
    (tmp_path / "link-to-folder").symlink_to(tmp_path / "folder")
    assert not remove_folder(tmp_path / "link-to-folder", Right.EMPTY)
    remove_tree(tmp_path / "link-to-folder", Right.TEMPORARY)
    left = {"mine", "link", "pipe", "folder", "link-to-folder"}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert remove_file(tmp_path / "mine", Right.FORM)
    assert remove_folder(tmp_path / "folder", Right.EMPTY)


def test_nothing_is_cut_or_opened_through_a_link(tmp_path: Path, link: Path) -> None:
    with pytest.raises(OSError):
        cut_file(link, 0, Right.TORN)
    for append in (False, True):
        with pytest.raises(OSError):
            open_regular(link, append=append)
    assert link.read_bytes() == b"mine"
    with open_regular(link, follow=True) as file:
        assert file.read() == b"mine"
    cut_file(tmp_path / "mine", 2, Right.TORN)
    assert link.read_bytes() == b"mi"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "pipe", follow=True)
    with pytest.raises(OSError):
        open_regular(tmp_path / "pipe", append=True)


@pytest.mark.parametrize("through_a_link", [False, True])
def test_what_is_replaced_keeps_its_permissions(tmp_path: Path, through_a_link: bool) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"1")
    old.chmod(0o640)
    target = old
    if through_a_link:
        target = tmp_path / "link"
        target.symlink_to(old)
    write_whole(target, b"2")
    assert (old.read_bytes(), stat.S_IMODE(old.stat().st_mode)) == (b"2", 0o640)
    assert target.is_symlink() == through_a_link


def test_what_is_new_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_file_that_cannot_take_its_place_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "made").write_bytes(b"1")
    with pytest.raises(OSError):
        put_in_place(tmp_path / "made", tmp_path / "folder", Right.RESULT)
    with pytest.raises(ZeroDivisionError), complete_or_absent(tmp_path / "a") as temporary:
        temporary.write_bytes(b"1")
        raise ZeroDivisionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "made"]


def test_bytes_are_written_over_in_regular_files_alone(tmp_path: Path, link: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    write_over(path, 3, b"abc", Right.TEMPORARY)
    assert path.read_bytes() == b"012abc6789"
    for wrong in (path, link):
        with pytest.raises(OSError):
            write_over(wrong, 8, b"abc", Right.TEMPORARY)
    assert path.read_bytes() == b"012abc6789" and link.read_bytes() == b"mine"
