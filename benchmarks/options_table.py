"""The table of options in docs/cli.md: every option of every command and its default, as the program has them.

python benchmarks/options_table.py [--write]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from starvsr.cli.app import app

BEGIN, END = "<!-- options -->\n", "<!-- end of options -->\n"
DOCUMENT = Path(__file__).parent.parent / "docs" / "cli.md"
# In a help text.
DEFAULT = re.compile(r"\(default:? ([^()]+)\)")
OWN_HELP = ("--help", "--help-all")


def table() -> str:
    """Markdown: a row for each command, or for each group of its options."""
    return "\n".join(["| options of | and their defaults |", "|---|---|", *rows()]) + "\n"


def rows() -> Iterator[str]:
    """Options that `upscale` and `plan` share stand under `upscale`."""
    group: Any = typer.main.get_command(app)
    shared = {flag_of(option) for option in options_of(group.commands["upscale"])}
    for name, command in group.commands.items():
        panels: dict[str, list[str]] = {}
        for option in options_of(command):
            if name != "plan" or flag_of(option) not in shared:
                panel = getattr(option, "rich_help_panel", None) or ""
                panels.setdefault(panel.lower(), []).append(described(option))
        if name == "plan":
            panels[""] = ["those of `upscale` in groups", *panels.get("", [])]
        for panel, described_options in panels.items():
            of = f"`{name}`, {panel}" if panel else f"`{name}`"
            yield f"| {of} | {', '.join(described_options)} |"


def options_of(command: Any) -> list[Any]:
    """Options of a command in the order of its help."""
    options = (each for each in command.params if each.param_type_name == "option")
    return [each for each in options if not set(each.opts) & set(OWN_HELP)]


def flag_of(option: Any) -> str:
    """The long name, or the only one."""
    names: list[str] = option.opts
    return max(names, key=len)


def described(option: Any) -> str:
    """The flag and its default; switches that are off by default have none."""
    told = DEFAULT.search(option.help or "")
    flag, off = flag_of(option), option.secondary_opts
    if off:
        usual, other = (flag, off[0]) if option.default else (off[0], flag)
        return f"`{usual}` (or `{other}`)"
    default = option.default
    if told:
        return f"`{flag}` ({told[1]})"
    if option.is_flag or default is None:
        return f"`{flag}`"
    return f"`{flag}` ({default:g})" if isinstance(default, float) else f"`{flag}` ({default})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into the document")
    if not parser.parse_args().write:
        print(table())
        return
    before, rest = DOCUMENT.read_text().split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
