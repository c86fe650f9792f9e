"""The page's components, and what happens when one of them is used."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from starvsr.errors import StarvsrError, UsageError
from starvsr.options import DEFAULT_CRF
from starvsr.plan.speed import SPEEDS, has_speeds
from starvsr.specs import SPECS, fetched_components
from starvsr.ui import markup
from starvsr.ui.commands import shown
from starvsr.ui.desk import Desk
from starvsr.ui.planned import (
    CODECS,
    CONTAINERS,
    MODELS,
    SIZES,
    Chosen,
    plan_lines,
    weights_text,
)

_UP = ".."
_TICK_S = 1.0
_INPUT = "input"
_NOT_SURE = "not sure"
# Their choices change, and a page that was open before a restart of the server still has the old ones.
_OPEN: dict[str, Any] = {"interactive": True, "allow_custom_value": True}


def build(desk: Desk, start: Path) -> gr.Blocks:
    """The page. start: the folder or file that it begins with."""
    with gr.Blocks(title="starvsr", analytics_enabled=False) as page:
        gr.HTML("<h1>starvsr</h1>")
        with gr.Row():
            with gr.Column(min_width=340):
                source = _Source(desk, start)
                settings = _Settings(desk, source)
            with gr.Column(min_width=340):
                _Preview(desk, settings)
                _Jobs(desk, settings)
                _weights(desk)
        page.load(source.choose, source.place, [*source.outputs, settings.folder], **_QUIET)
    return page


_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
_HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def _said(action: Callable[..., Any]) -> Callable[..., Any]:
    """Show an error of the action as a message on the page."""

    @functools.wraps(action)
    def told(*values: Any) -> Any:
        try:
            return action(*values)
        except (StarvsrError, OSError) as error:
            text = html.escape(_sentence(error))
            raise gr.Error(text, title="error", print_exception=False) from error

    return told


def _sentence(error: StarvsrError | OSError) -> str:
    return str(error.args[0] if isinstance(error, StarvsrError) and error.args else error)


class _Source:
    """Choosing a file."""

    def __init__(self, desk: Desk, start: Path) -> None:
        self._desk = desk
        self.file = gr.State("")
        self.place = gr.Textbox(
            str(start),
            label="File or folder",
            info="A path on this machine, and Enter",
            max_lines=1,
        )
        self.entry = gr.Dropdown([], label="In this folder", elem_id="entry", **_OPEN)
        self.drop = gr.File(label="Or drop a file here: it is copied", height=140, elem_id="drop")
        self.told = gr.HTML(elem_id="told")
        self.at = gr.Number(0, minimum=0, label="Preview from, seconds", render=False)
        self.outputs = [self.file, self.place, self.entry, self.told, self.at]

    def choose(self, text: str) -> list[Any]:
        """Values of `outputs` and of the output's folder for a path."""
        desk = self._desk
        try:
            path = desk.roots.inside(text)
            folder = path if path.is_dir() else path.parent
            folders, files = desk.roots.listed(folder)
            names = [
                *([_UP] if folder not in desk.roots.folders else []),
                *(f"{f}/" for f in folders),
            ]
            entry = gr.update(choices=[*names, *files], value=None)
            if path.is_dir():
                return ["", str(path), entry, "", 0, str(path)]
            info, told = desk.open(text)
        except (StarvsrError, OSError) as error:
            told = markup.error(_sentence(error))
            return ["", text, gr.skip(), told, gr.skip(), gr.skip()]
        last = gr.update(maximum=info.duration_s, value=0)
        entry = gr.update(choices=[*names, *files], value=path.name)
        return [str(path), str(path), entry, told, last, str(folder)]

    def enter(self, place: str, name: str | None) -> list[Any]:
        """As `choose`, for a name in the folder of `place`."""
        if not name:
            return [gr.skip()] * (len(self.outputs) + 1)
        here = Path(place).expanduser()
        folder = here if here.is_dir() else here.parent
        return self.choose(str(folder.parent if name == _UP else folder / name))

    def dropped(self, upload: str | None) -> list[Any]:
        """As `choose`, for a file that was dropped."""
        if upload is None:
            return [gr.skip()] * (len(self.outputs) + 1)
        return self.choose(str(self._desk.keep_dropped(Path(upload))))


class _Settings:
    """Choosing what is done, and what that means."""

    def __init__(self, desk: Desk, source: _Source) -> None:
        self._desk = desk
        with gr.Row():
            self.model = gr.Dropdown(list(MODELS), value="auto", label="Model", min_width=120)
            self.size = gr.Dropdown(
                list(SIZES), value="4x", label="Size", min_width=120, elem_id="size"
            )
        self.detail = gr.Slider(
            0, 1, 1, step=0.05, label="Look: faithful (0) to vivid (1)", visible=False
        )
        self.speed = gr.Dropdown(
            list(SPEEDS), value="exact", label="Speed", visible=False, elem_id="speed"
        )
        with gr.Row():
            self.codec = gr.Dropdown(list(CODECS), value="auto", label="Codec", min_width=120)
            self.crf = gr.Slider(
                0, 40, DEFAULT_CRF, step=1, label="CRF, lower is better", min_width=220
            )
            self.container = gr.Dropdown(
                list(CONTAINERS), value="mkv", label="File", min_width=90, elem_id="container"
            )
        self.folder = gr.Textbox(label="Output folder", max_lines=1, elem_id="folder")
        self.overwrite = gr.Checkbox(label="Replace an existing output")
        self.plan = gr.HTML(elem_id="plan")
        self.command = gr.Textbox(
            label="The same on the command line",
            interactive=False,
            buttons=["copy"],
            lines=2,
            elem_id="command",
        )
        look = [self.detail, self.speed]
        encoding = [self.codec, self.crf, self.container]
        chosen = [self.model, self.size, *look, *encoding]
        self.inputs = [source.file, *chosen, self.folder, self.overwrite]
        self.source = source
        outputs = [*source.outputs, self.folder]
        gr.on([source.place.submit], source.choose, source.place, outputs, **_QUIET)
        gr.on([source.entry.input], source.enter, [source.place, source.entry], outputs, **_QUIET)
        gr.on([source.drop.upload], _said(source.dropped), source.drop, outputs, **_QUIET)
        gr.on(
            [component.change for component in self.inputs],
            self.planned,
            self.inputs,
            [self.plan, self.command, *look],
            trigger_mode="always_last",
            **_QUIET,
        )

    def planned(self, *values: Any) -> list[Any]:
        """The plan, the command, and whether the model has a look or speeds to choose from."""
        chosen = Chosen(*values)
        if not chosen.file:
            return ["", "", gr.skip(), gr.skip()]
        try:
            job, warnings = self._desk.planner.plan(chosen)
            text = markup.facts(plan_lines(job, warnings))
            spec = job.choice.spec
            command = shown(chosen.command(self._desk.roots))
            # What is hidden must not be asked for.
            look = gr.update(visible=True) if spec.faithful else gr.update(visible=False, value=1)
            speeds = has_speeds(spec)
            speed = gr.update(visible=True) if speeds else gr.update(visible=False, value="exact")
            return [text, command, look, speed]
        except (StarvsrError, OSError) as error:
            return [markup.error(_sentence(error)), "", gr.skip(), gr.skip()]


class _Preview:
    """A few seconds of it, and several of those beside each other."""

    def __init__(self, desk: Desk, settings: _Settings) -> None:
        self._desk = desk
        with gr.Row():
            settings.source.at.render()
            seconds = gr.Number(1, minimum=0.1, maximum=60, label="For, seconds", min_width=100)
            with gr.Column(min_width=100):
                run = gr.Button("Preview", elem_id="preview", min_width=100)
                suggest = gr.Button("Suggest", elem_id="suggest", min_width=100)
        with gr.Row(visible=False) as both:
            left = gr.Dropdown([_INPUT], value=_INPUT, label="Left", min_width=150, **_OPEN)
            right = gr.Dropdown([], label="Right", min_width=150, **_OPEN)
        view = gr.HTML(elem_id="pair")
        seen = gr.State(0)
        run.click(
            _said(self._run), [seconds, settings.source.at, *settings.inputs], None, **_HIDDEN
        )
        suggest.click(_said(self._suggest), settings.source.file, None, **_HIDDEN)
        gr.Timer(_TICK_S).tick(self._look, seen, [seen, both, left, right], **_HIDDEN)
        gr.on([left.change, right.change], self._pair, [left, right], view, **_HIDDEN)

    def _run(self, seconds: float | None, at_s: float | None, *values: Any) -> None:
        if seconds is None:
            raise UsageError("the length of the preview is empty: give a number of seconds")
        self._desk.preview(Chosen(*values), seconds, at_s or 0.0)

    def _suggest(self, file: str) -> None:
        if not file:
            raise UsageError("choose a file first")
        self._desk.suggest(file)

    def _look(self, seen: int) -> list[Any]:
        names = list(self._desk.previews())
        if len(names) == seen:
            return [gr.skip()] * 4
        left = gr.update(choices=[_INPUT, *names])
        right = gr.update(choices=names, value=names[-1] if names else None)
        return [len(names), gr.update(visible=bool(names)), left, right]

    def _pair(self, left: str, right: str | None) -> str:
        found = self._desk.previews()
        if right not in found or left not in (_INPUT, *found):
            return ""
        before, after, film = found[right]
        other = before if left == _INPUT else found[left][1]
        address = self._desk.address
        return markup.pair((left, address(other)), (right, address(after)), address(film))


class _Jobs:
    """The queue, and jobs that were found in the folder."""

    def __init__(self, desk: Desk, settings: _Settings) -> None:
        self._desk = desk
        run = gr.Button("Start", variant="primary", elem_id="start")
        rows = gr.HTML(elem_id="jobs")
        job = gr.Dropdown([], label="Job", elem_id="job", **_OPEN)
        with gr.Row():
            buttons = [
                gr.Button(name, elem_id=name.split()[0].lower(), min_width=90)
                for name in ("Stop", "Resume", "Finish a partial file", "Discard")
            ]
        seen, choices = gr.State(""), gr.State([])
        run.click(_said(self._start), settings.inputs, None, **_HIDDEN)
        stop, resume, finish, discard = buttons
        stop.click(_said(desk.stop), job, None, **_HIDDEN)
        resume.click(_said(self._resume), [job, settings.overwrite], None, **_HIDDEN)
        finish.click(_said(self._finish), [job, settings.overwrite], None, **_HIDDEN)
        # The choice may have changed by itself, so it is said which job it is.
        name = "document.querySelector('#job input').value"
        sure = f"key => confirm('Remove what is finished of ' + {name} + '?') ? key : '{_NOT_SURE}'"
        discard.click(_said(self._discard), job, None, js=sure, **_HIDDEN)
        inputs = [seen, choices, settings.folder, job]
        outputs = [seen, choices, rows, job]
        gr.Timer(_TICK_S).tick(self._look, inputs, outputs, **_HIDDEN)

    def _start(self, *values: Any) -> None:
        self._desk.start(Chosen(*values))

    def _resume(self, key: str | None, overwrite: bool) -> None:
        self._desk.resume(key, overwrite=overwrite)

    def _finish(self, key: str | None, overwrite: bool) -> None:
        self._desk.finish(key, overwrite=overwrite)

    def _discard(self, key: str | None) -> None:
        if key != _NOT_SURE:
            self._desk.discard(key)

    def _look(self, seen: str, choices: list[Any], folder: str, key: str | None) -> list[Any]:
        """What has changed since the last look."""
        desk = self._desk
        rows, now = [], []
        for task in desk.queue.tasks:
            picture, film = desk.picture(task), desk.film(task)
            addresses = [desk.address(path) if path else "" for path in (picture, film)]
            rows.append(markup.job(task, *addresses))
            now.append(
                [
                    f"{task.number}: {task.label or task.target.name} ({task.state})",
                    str(task.number),
                ]
            )
        for each in self._found(folder):
            state = each.problem or f"{each.done} of {each.segments} segments finished"
            now.append([f"{each.folder.name} ({state})", str(each.folder)])
        text = "".join(rows)
        values = [value for _, value in now]
        new = [value for value in values if value not in [before for _, before in choices]]
        kept = key if key in values and not new else next(reversed(new or values), None)
        return [
            text,
            now,
            gr.skip() if text == seen else text,
            gr.skip() if now == choices else gr.update(choices=now, value=kept),
        ]

    def _found(self, folder: str) -> list[Any]:
        try:
            return self._desk.begun(self._desk.roots.inside(folder)) if folder else []
        except StarvsrError:
            return []


def _weights(desk: Desk) -> None:
    """Fetching the files of models that the package does not contain."""
    names = [name for name in SPECS if fetched_components(name)]
    with gr.Accordion("Weights of other models", open=False):
        model = gr.Dropdown(names, value=names[0], label="Model")
        about = gr.HTML(markup.facts([("files", weights_text(names[0]))]))
        run = gr.Button("Download", elem_id="download")
        model.change(
            lambda name: markup.facts([("files", weights_text(name))]), model, about, **_HIDDEN
        )
        run.click(_said(desk.download), model, None, **_HIDDEN)
