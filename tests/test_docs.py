"""Documents: generated parts match their generators, links resolve, and commands, options and paths exist."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import pydoc
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from starvsr.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PACKAGE = ROOT / "src" / "starvsr"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PATH = re.compile(r"(?<![\w/.])(?:src/starvsr|tests|benchmarks|configs|docs|examples)/[\w./-]*\w")
NAME = re.compile(r"(?<![\w/.])starvsr(?:\.\w+)+(?!\w)")
MODULE = re.compile(rf"(?<![\w/.])(?:{'|'.join(ROOMS)})/\w+\.py")


def script(name: str) -> Any:
    """A script of `benchmarks/` as a module."""
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_windows_is_the_planners() -> None:
    generator = script("memory_table")
    text = (ROOT / "docs" / "memory.md").read_text()
    table = text.split(generator.BEGIN)[1].split(generator.END)[0]
    assert table.strip() == generator.table().strip(), "python benchmarks/memory_table.py --write"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_commands_and_paths(page: Path) -> None:
    text = page.read_text()
    assert [*bad_links(text, page), *bad_commands(text), *bad_flags(text), *bad_paths(text)] == []


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"^\| \[(\w+\.md)\]", index, re.MULTILINE))


def test_the_tree_names_every_module_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    tree = next(block for _, block in BLOCK.findall(text) if block.startswith("src/starvsr/\n"))
    assert set(re.findall(r"^  (\w+)/ ", tree, re.MULTILINE)) == set(ROOMS)
    folder, named = PACKAGE, set()
    for line in tree.splitlines()[1:]:
        names = re.split(r" {2,}", line.strip())[0].split()
        if names[0].endswith("/"):
            folder = PACKAGE / names[0]
            continue
        for name in names:
            path = folder / (name if "." in name else f"{name}.py")
            assert path.is_file(), line
            named.add(path)
    assert named >= {path for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")}


@pytest.mark.parametrize(
    "text",
    [
        "[page](docs/none.md)",
        "[heading](docs/cli.md#none)",
        "`starvsr none`",
        "`starvsr upscale a b --none`",
        "`starvsr upscale a b --speed none`",
        "`starvsr plan a b c`",
        "```sh\nOMP_NUM_THREADS=1 starvsr compare a | cat # too few\n```",
        "`--none 3`",
        "`media/none.py`",
        "`tests/none.py`",
        "`starvsr.zoo.none`",
    ],
)
def test_what_is_wrong_is_found(text: str) -> None:
    page = ROOT / "README.md"
    found = [*bad_links(text, page), *bad_commands(text), *bad_flags(text), *bad_paths(text)]
    assert len(found) == 1


def bad_links(text: str, page: Path) -> Iterator[str]:
    """Relative links to files or headings that do not exist."""
    for link in LINK.findall(BLOCK.sub("", text)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub's anchors."""
    headings = HEADING.findall(BLOCK.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def inline_codes(text: str) -> Iterator[str]:
    for code in INLINE.findall(BLOCK.sub("", text)):
        yield code.replace("\n", " ")


def bad_commands(text: str) -> Iterator[str]:
    """Calls of starvsr that its own parser refuses; only those in blocks must be complete."""
    for code in inline_codes(text):
        yield from refused(code, complete=False)
    for language, block in BLOCK.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                yield from refused(line, complete=True)


def refused(line: str, *, complete: bool) -> Iterator[str]:
    words = shlex.split(line, comments=True) if re.search(r"(^|\s)starvsr\s", line) else []
    if "starvsr" not in words or any(word.endswith(".py") for word in words):
        return
    words = words[words.index("starvsr") + 1 :]
    words = words[: words.index("|")] if "|" in words else words
    call = [word.strip("[]").replace("...", "") or word for word in words]
    # Not calls: a version such as `starvsr 0.1.0`, the word COMMAND, an ellipsis.
    if not call or not re.match(r"[a-z-]", call[0]):
        return
    for alternative in itertools.product(*(word.split("|") for word in call)):
        try:
            parse(list(alternative))
        except Exception as error:
            message = str(error)
            stands_for_a_value = any(f"'{word}'" in message for word in call if word.isupper())
            if stands_for_a_value or (not complete and "missing" in message.lower()):
                continue
            yield f"{line}: {message or type(error).__name__}"


def parse(call: list[str]) -> None:
    """Raises for an unknown command or option, a value that is not allowed, or a wrong number of arguments."""
    group: Any = typer.main.get_command(app)
    command = group if call[0].startswith("-") else group.commands[call[0]]
    with contextlib.suppress(typer.Exit):  # --help
        command.make_context(call[0], call if command is group else call[1:])


def known_flags() -> set[str]:
    """Options of starvsr and of the benchmarks."""
    group: Any = typer.main.get_command(app)
    flags = {
        flag
        for command in (group, *group.commands.values())
        for parameter in command.get_params(typer.Context(command, **command.context_settings))
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    for script in (ROOT / "benchmarks").glob("*.py"):
        flags.update(re.findall(r'"(--[a-z-]+)"', script.read_text()))
    return flags


def bad_flags(text: str) -> Iterator[str]:
    flags = known_flags()
    for code in inline_codes(text):
        for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", code) if code.startswith("--") else ():
            if flag not in flags:
                yield code


def bad_paths(text: str) -> Iterator[str]:
    """Files, modules and names of this project that do not exist."""
    for name in PATH.findall(LINK.sub("", text)):
        if not (ROOT / name).exists():
            yield name
    for name in MODULE.findall(text):
        if not (PACKAGE / name).is_file():
            yield name
    for name in NAME.findall(text):
        if pydoc.locate(name) is None:
            yield name
