"""The `starvsr` command: its subcommands, and where errors become messages and exit codes."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, NoReturn

import typer

from starvsr import __version__
from starvsr.cli import info, upscale
from starvsr.errors import StarvsrError

EXIT_BUG = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

app = typer.Typer(
    name="starvsr",
    help="Upscale videos of any length with STAR, keeping their sound, subtitles and timing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like KeyboardInterrupt, so that temporary files go."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"starvsr {__version__}")
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


app.command("upscale", short_help="Restore one video at a larger size.")(upscale.upscale)
app.command("plan", short_help="Show what upscale would do, without loading weights.")(upscale.plan)
app.command("info", short_help="Show what a file holds, or what this installation can do.")(
    info.info
)


def main() -> NoReturn:
    """Run the command line and exit with a documented code."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every message goes to standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_MessageHandler()])
    try:
        # Non-standalone mode hands back the code of `typer.Exit`.
        return int(app(arguments, standalone_mode=False) or 0)
    except StarvsrError as error:
        _say_error(str(error), error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted; nothing was written")
        return EXIT_INTERRUPTED
    except Terminated:
        _say("terminated; nothing was written")
        return EXIT_TERMINATED
    except Exception as error:
        return _usage_or_bug(error)


def _usage_or_bug(error: Exception) -> int:
    show = getattr(error, "show", None)
    code = getattr(error, "exit_code", None)
    if callable(show) and isinstance(code, int):
        # click's own errors: unknown options, values of the wrong type.
        show()
        return code
    _say_error(
        f"{type(error).__name__}: {error}. This is a bug in starvsr; --verbose shows where", error
    )
    return EXIT_BUG


def _say_error(message: str, error: BaseException) -> None:
    _say(f"error: {message}")
    if "--verbose" in sys.argv or "-v" in sys.argv:
        traceback.print_exception(error, file=sys.stderr)


def _say(message: str) -> None:
    typer.echo(message, err=True)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


class _MessageHandler(logging.Handler):
    """Prints the library's warnings as one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(f"{record.levelname.lower()}: {record.getMessage()}")
