"""`starvsr download-weights`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from starvsr.cli.common import AsJson, Progress, Quiet, Verbose
from starvsr.cli.completion import completing
from starvsr.cli.console import progress_view
from starvsr.cli.messages import set_verbosity
from starvsr.cli.printing import echo
from starvsr.cli.report import print_event
from starvsr.cli.streams import check_output
from starvsr.cli.weights_report import list_json, list_text, plan_json, plan_text, verified_text
from starvsr.errors import UsageError, WeightsError, did_you_mean
from starvsr.specs import COMPONENTS, SPECS, Component, fetched_components
from starvsr.zoo.folder import component_file, is_file, weights_folder

DEFAULT_MODEL = "star-light"
EVERYTHING = "all"


def download_weights(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help=f"star-light, star-heavy, star-cogvideox, all, or a component (default: {DEFAULT_MODEL}).",
            autocompletion=completing(EVERYTHING, *COMPONENTS),
        ),
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="List what is available and what is installed.")
    ] = False,
    verify_only: Annotated[
        bool,
        typer.Option("--verify", help="Compare the hashes of installed files with the record."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be downloaded, without downloading.")
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="The weights folder (default: STARVSR_WEIGHTS, else starvsr in Hugging Face's home).",
        ),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="DIR|FILE|REPO",
            help="A folder or file of published or own weights, or a repository OWNER/NAME that mirrors them; may be "
            "repeated, and what is in none is found on this machine or downloaded (default: none).",
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never download: use only what is on this machine.")
    ] = False,
    dtype: Annotated[
        Literal["fp32", "fp16", "bf16"] | None,
        typer.Option("--dtype", help="Store networks in this type (default: as published)."),
    ] = None,
    keep_original: Annotated[
        bool,
        typer.Option(
            "--keep-original", help="Keep the published files, in the folder's originals/."
        ),
    ] = False,
    progress: Progress = "auto",
    as_json: AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> int:
    """Download, check and convert model weights. Run again, it resumes.

    Example: starvsr download-weights star-light
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    if as_json:
        check_output()
    if sum((list_only, verify_only, dry_run)) > 1:
        raise UsageError("--list, --verify and --dry-run contradict each other: give one of them")
    if list_only or verify_only:
        mode = "--list" if list_only else "--verify"
        given = {
            "--source": sources,
            "--dtype": dtype,
            "--keep-original": keep_original,
            "--offline": offline,
        }
        if idle := [option for option, value in given.items() if value]:
            raise UsageError(
                f"{mode} downloads nothing, so {' and '.join(idle)} would have no effect: leave out one or the other"
            )
    folder = weights_folder(directory)
    if list_only:
        listed = components_named(models or [EVERYTHING])
        if as_json:
            print_event("weights", list_json(listed, folder))
        else:
            echo(list_text(listed, folder))
        return 0
    if verify_only:
        return _verify(models, folder, as_json=as_json)
    wanted = components_named(models or [DEFAULT_MODEL])
    from starvsr.zoo.install import install
    from starvsr.zoo.planning import check_space, plan_install

    how: dict[str, Any] = {
        "sources": sources or (),
        "dtype": dtype,
        "keep_original": keep_original,
        "offline": offline,
    }
    if dry_run:
        plan = plan_install(wanted, folder, **how)
        if as_json:
            print_event("download-plan", plan_json(plan))
        else:
            echo(plan_text(plan))
        check_space(plan)
        return 0
    with progress_view(progress, quiet=quiet) as view:
        plan = install(
            wanted,
            folder,
            **how,
            progress=view,
            announce=lambda plan: None if quiet else echo(plan_text(plan), err=True),
        )
    if as_json:
        print_event("done", plan_json(plan))
    if not quiet:
        count = len(plan.wanted)
        done = "nothing to do" if not count else f"{count} of {len(wanted)} installed now"
        echo(f"{folder}: {done}", err=True)
    return 0


def components_named(names: Sequence[str]) -> list[Component]:
    """The components that models or component names stand for, each once. Raises UsageError for other names."""
    found: dict[str, Component] = {}
    for name in names:
        if name == EVERYTHING:
            found.update(COMPONENTS)
        elif name in SPECS:
            found.update({n: COMPONENTS[n] for n in fetched_components(name)})
        elif name in COMPONENTS:
            found[name] = COMPONENTS[name]
        else:
            known = [EVERYTHING, *SPECS, *(n for n in COMPONENTS if n not in SPECS)]
            raise UsageError(
                f"the model {name} is unknown: {did_you_mean(name, known)}give one of {', '.join(known)}"
            )
    return list(found.values())


def _verify(models: list[str] | None, folder: Path, *, as_json: bool) -> int:
    from starvsr.zoo.hashes import read_hashes
    from starvsr.zoo.verify import verify

    components = components_named(models or [EVERYTHING])
    if not models:
        # What was never installed is not missing.
        recorded = read_hashes(folder).components
        there = [c for c in components if is_file(component_file(c.name, folder))]
        components = [c for c in components if c in there or c.name in recorded]
    if not components:
        raise WeightsError(
            f"{folder} contains no weights to verify: give another --dir, or install some with starvsr download-weights"
        )
    found = verify(folder, components)
    if as_json:
        states = [{"name": v.component, "state": v.state, "detail": v.detail} for v in found]
        print_event("verified", {"folder": str(folder), "components": states})
    else:
        echo(verified_text(found))
    wrong = [v.component for v in found if v.state in ("corrupt", "missing")]
    if wrong:
        raise WeightsError(
            f"{', '.join(wrong)} in {folder} cannot be used: delete the corrupt ones and run starvsr download-weights "
            f"{' '.join(wrong)} --dir {shlex.quote(str(folder))}"
        )
    return 0
