"""`--help` of a command with many options: the everyday ones and the groups; `--help GROUP`, `--help-all` for more."""

from __future__ import annotations

import copy
import difflib
from typing import Any

from typer.core import TyperCommand, TyperGroup

from starvsr.cli.printing import echo
from starvsr.errors import UsageError

_EVERYDAY = (
    *("--scale", "--resolution", "--model", "--prompt", "--preview", "--at", "--start", "--end"),
    *("--codec", "--crf", "--audio", "--device", "--keep-going", "--overwrite", "--help"),
)
_ALL = "--help-all"
HELP_NAMES = ["-h", "--help", _ALL]
EXAMPLES = (
    "starvsr upscale in.mp4 out.mp4 --scale 4",
    "starvsr upscale in.mp4 out.mp4 --preview 5 --at 1:30   # a sample first",
    "starvsr upscale videos/ large/ --resolution 1080p --keep-going",
)
# Options without a group of their own.
_REST = "Other options"


class Command(TyperCommand):
    """A command whose help shows types only of options that take a value, and that takes no empty names of files."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises UsageError for an empty name of a file, which pathlib would take for the current folder."""
        if not ctx.resilient_parsing:
            given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
            for param in self.get_params(ctx):
                value = given.get(param.name)
                if _is_name(param) and "" in (
                    value if isinstance(value, (list, tuple)) else [value]
                ):
                    raise UsageError(
                        f"{self._word_for(ctx, param, given)} is empty: give a name (a shell variable that is not set "
                        "is empty)"
                    )
        return super().parse_args(ctx, args)

    def _word_for(self, ctx: Any, param: Any, given: Any) -> str:
        """What the help calls a parameter. A single word is the first argument, though the parser makes it the last."""
        if param.opts != [param.name]:
            return str(max(param.opts, key=len))
        arguments = [each for each in self.get_params(ctx) if each.opts == [each.name]]
        return str((param if given.get(arguments[0].name) else arguments[0]).metavar)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """`INPUT` for an argument that is required, as everywhere else, instead of Typer's `{INPUT}`."""
        pieces: list[str] = super().collect_usage_pieces(ctx)
        return [piece.strip("{}") for piece in pieces]

    def get_params(self, ctx: Any) -> list[Any]:
        return _with_fewer_types(super().get_params(ctx))


class Group(TyperGroup):
    """The group of commands, whose help shows types only of options that take a value."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _with_fewer_types(super().get_params(ctx))


class HelpByNeed(Command):
    """A command whose `--help` shows what most people need; everything else is one word away."""

    _topic = ""
    """Which help was asked for: empty for the everyday options, a group, or `--help-all`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes the word after `--help` as a group. Raises UsageError for another word that is not a file."""
        asked = next((place for place, word in enumerate(args) if word in HELP_NAMES), None)
        if asked is not None and "--" not in args[:asked]:
            self._topic = _ALL if args[asked] == _ALL else self._group(args[asked + 1 :])
            args = ["--help"]
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, or while help is shown those that were asked for."""
        params = super().get_params(ctx)
        if not ctx.meta.get(__name__):
            return params
        if self._topic == _ALL:
            return params
        options = [param for param in params if param.param_type_name == "option"]
        if self._topic:
            return [param for param in options if _panel(param) == self._topic]
        everyday = [param for flag in _EVERYDAY for param in options if flag in param.opts]
        return [*(param for param in params if param not in options), *map(_plain, everyday)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the help that was asked for, then where the rest is."""
        ctx.meta[__name__] = True
        super().format_help(ctx, formatter)
        ctx.meta[__name__] = False
        if self._topic:
            return
        listed = ", ".join(map(_word, self._groups()))
        if self.name == "upscale":
            echo(" Examples:\n\n" + "".join(f"   {example}\n" for example in EXAMPLES))
        echo(f" More options: --help-all, or --help GROUP, one of\n {listed}.\n")

    def _groups(self) -> list[str]:
        panels = [_panel(param) for param in self.params if param.param_type_name == "option"]
        return sorted(dict.fromkeys(panels), key=lambda panel: panel == _REST)

    def _group(self, words: list[str]) -> str:
        """The group that the word after `--help` means."""
        word = words[0].lower() if words else "-"
        if word.startswith("-") or "." in word or "/" in word:
            return ""
        groups = {_word(group): group for group in self._groups()}
        near = difflib.get_close_matches(word, groups, 1)
        found = [name for name in groups if name.startswith(word)] or near
        if not found:
            raise UsageError(f"--help {word}: no such group: give one of {', '.join(groups)}")
        return groups[found[0]]


def _is_name(param: Any) -> bool:
    """Whether the value names a file, a folder or a model."""
    return param.param_type_name == "argument" or param.metavar in ("FILE", "DIR", "FOLDER")


def _with_fewer_types(params: list[Any]) -> list[Any]:
    for param in params:
        if param.param_type_name == "argument" or param.is_flag:
            param.display_type_rich = _no_type
    return params


def _no_type(ctx: Any) -> None:
    """For `display_type_rich` of a parameter."""


def _panel(param: Any) -> str:
    return getattr(param, "rich_help_panel", None) or _REST


def _word(group: str) -> str:
    """What `--help` takes for a group: the word that tells it from others."""
    first, *more = group.lower().split()
    return more[-1] if first == "other" and more != ["options"] else first


def _plain(param: Any) -> Any:
    """The same option, outside its group."""
    plain = copy.copy(param)
    plain.rich_help_panel = None
    return plain
