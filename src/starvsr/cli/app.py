"""The `starvsr` command: its subcommands, and where errors become messages and exit codes."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from starvsr import __version__
from starvsr.cli import (
    bench,
    compare,
    degrade,
    evaluate,
    finish,
    info,
    train,
    tune,
    ui,
    upscale,
    weights,
)
from starvsr.cli.ending import (
    Ended,
    Interrupted,
    ended_by,
    heed_no_more,
    heed_signals,
    signals_first,
)
from starvsr.cli.help import HELP_NAMES, Command, Group, HelpByNeed
from starvsr.cli.messages import heard, say, say_error
from starvsr.cli.printing import echo
from starvsr.cli.streams import guarded, reserve_descriptors
from starvsr.errors import StarvsrError
from starvsr.job.heap import share_heap

EXIT_BUG = 1

_LEFT_BEHIND = {
    "download-weights": "downloaded data is kept; the same command resumes",
    "degrade": "finished clips are kept",
    "ui": "the page is closed; stopped jobs can be resumed",
    "train": "the same command resumes from the last checkpoint",
    "upscale": "nothing was written: no segment was finished",
}

app = typer.Typer(
    name="starvsr",
    cls=Group,
    help="Upscale videos of any length with STAR, keeping audio, subtitles and timing.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"starvsr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


_HELP = {"help_option_names": HELP_NAMES}
app.command(
    "upscale",
    short_help="Restore videos at a larger size.",
    cls=HelpByNeed,
    context_settings=_HELP,
)(upscale.upscale)
app.command(
    "plan",
    short_help="Show what upscale would do, without loading weights.",
    cls=HelpByNeed,
    context_settings=_HELP,
)(upscale.plan)
app.command(
    "tune", cls=Command, short_help="Measure a video, try settings, and say what it would take."
)(tune.tune)
app.command("finish", cls=Command, short_help="Write a playable file from an interrupted upscale.")(
    finish.finish
)
app.command(
    "download-weights", cls=Command, short_help="Download, check and convert model weights."
)(weights.download_weights)
app.command(
    "info", cls=Command, short_help="Show what a file contains, or what this installation supports."
)(info.info)
app.command("degrade", cls=Command, short_help="Degrade videos, as test inputs or training pairs.")(
    degrade.degrade
)
app.command("train", cls=Command, short_help="Train a network, or resume training.")(train.train)
app.command("evaluate", cls=Command, short_help="Measure videos, with or without their originals.")(
    evaluate.evaluate
)
app.command("compare", cls=Command, short_help="Compare two videos: metrics and an HTML player.")(
    compare.compare
)
app.command("ui", cls=Command, short_help="Open a page for the browser that does all this.")(ui.ui)
app.command("bench", cls=Command, short_help="Measure how fast this machine is.")(bench.bench)


def main() -> NoReturn:
    """Run the command line and exit with a documented code."""
    # Torch's threads read this when it is imported: waiting ones sleep instead of spinning. Next to other load
    # this made nano 2.5x as fast (one pair of runs); alone it cost 12 and 28 % (two pairs). Set it to active to spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Before there are threads.
    share_heap()
    reserve_descriptors()
    heed_signals()
    try:
        code = run(sys.argv[1:])
    except (KeyboardInterrupt, Ended) as late:
        # While the final message was printed.
        code = ended_by(late).exit_code
    heed_no_more()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every message goes to standard error."""
    with guarded(), heard():
        try:
            with signals_first():
                return _run(arguments)
        except StarvsrError as error:
            text, *ways = map(str, error.args or ("",))
            say_error(text, error, *ways)
            return error.exit_code
        except (KeyboardInterrupt, typer.Abort, Ended) as error:
            ended = ended_by(error)
            kept = str(error) if isinstance(error, Ended) else ""
            left = _LEFT_BEHIND.get(arguments[0] if arguments else "", "no output was written")
            say(ended.word + (kept or f"; {left}"), always=True)
            return ended.exit_code
        except Exception as error:
            return _usage_or_bug(error, arguments)


def _run(arguments: list[str]) -> int:
    try:
        # Non-standalone mode returns the code of `typer.Exit`.
        code = app(_dragged(arguments) or ["--help"], prog_name="starvsr", standalone_mode=False)
    except SystemExit as exit:
        # Typer silently converts any broken pipe to this.
        if isinstance(exit.__context__, OSError):
            raise exit.__context__ from None
        raise
    if code == Interrupted.exit_code:
        # Typer silently converts KeyboardInterrupt to this.
        raise KeyboardInterrupt
    return int(code or 0)


def _dragged(arguments: list[str]) -> list[str]:
    """A single file alone is what a desktop gives a program onto which it was dragged: it is to be upscaled."""
    if len(arguments) != 1 or arguments[0] in _commands():
        return arguments
    # `Path.is_file` raises for a name that is too long.
    is_file = os.path.isfile(arguments[0])  # noqa: PTH113
    return ["upscale", "--", *arguments] if is_file else arguments


def _usage_or_bug(error: Exception, arguments: list[str]) -> int:
    format_message = getattr(error, "format_message", None)
    code = getattr(error, "exit_code", None)
    if callable(format_message) and isinstance(code, int):
        # The parser's own errors: unknown options, values of the wrong type.
        say_error(_meant(arguments) or _usage(str(format_message()), error, arguments))
        return code
    say_error(
        f"{type(error).__name__}: {error}. This is a bug in starvsr; --verbose shows where", error
    )
    return EXIT_BUG


def _usage(message: str, error: Exception, arguments: list[str]) -> str:
    """The parser's message in one line, and whose help explains it."""
    # Not all of its errors know their command.
    own = [f"starvsr {name}" for name in arguments[:1] if name in _commands()]
    context = getattr(error, "ctx", None)
    command = context.command_path if context else (*own, "starvsr")[0]
    text = " ".join(message.replace("Value error, ", "").split()).rstrip(".")
    return f"{text}; see {command} --help"


def _meant(arguments: list[str]) -> str:
    """What is told to those who type as for ffmpeg, without `upscale` or with `-i`; empty if it is something else."""
    first, *rest = arguments or [""]
    files = [each for each in arguments if not each.startswith("-") and each not in _commands()]
    shown = "INPUT OUTPUT" if len(files) < 2 else shlex.join(files[:2])
    metrics = _metrics_apart(arguments)
    if len(metrics) > 1:
        return evaluate.metrics_advice(metrics)
    if {"-i", "--input"} & set(arguments) and (
        first in ("upscale", "plan") or first not in _commands()
    ):
        return f"INPUT and OUTPUT are given without -i or -o: starvsr upscale {shown}"
    if first.startswith("-") and not _commands() & set(arguments) and len(files) > 1:
        return f"a command is missing: did you mean starvsr upscale {shlex.join(arguments)}?"
    if first in _commands() or first.startswith("-") or not rest or not Path(first).suffix:
        return ""
    return f"{first} is not a command: did you mean starvsr upscale {shlex.join(arguments)}?"


def _metrics_apart(arguments: list[str]) -> list[str]:
    """Names of metrics that stand one after the other behind `--metrics`."""
    if "--metrics" not in arguments:
        return []
    from starvsr.metrics.registry import METRICS

    after = arguments[arguments.index("--metrics") + 1 :]
    return list(itertools.takewhile(METRICS.__contains__, after))


def _commands() -> set[str]:
    return {command.name for command in app.registered_commands if command.name}
