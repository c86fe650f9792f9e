"""What the page does: every action of a person on it, without the components that show it."""

from __future__ import annotations

import itertools
import secrets
import shutil
import subprocess
from pathlib import Path

from starvsr.errors import UsageError
from starvsr.media.files import complete_or_absent
from starvsr.media.probe import probe
from starvsr.media.removal import Right, remove_file
from starvsr.specs import SPECS, fetched_components
from starvsr.types import VideoInfo
from starvsr.ui import markup, pictures
from starvsr.ui.access import Roots
from starvsr.ui.begun import Begun, begun_in, discard
from starvsr.ui.commands import flags_of, upscale_command
from starvsr.ui.jobs import PROGRAM, Queue, Task, speaking_utf8
from starvsr.ui.planned import Chosen, Planner
from starvsr.zoo.folder import weights_folder

DROPPED = "starvsr-dropped"
"""The folder in the first root for files that were dropped on the page, since jobs need them after a restart."""
_FILMS = (".mp4", ".webm", ".mov", ".mkv")


class Desk:
    """One for all browsers: the roots, the queue, and the files that the page shows."""

    def __init__(self, roots: Roots, queue: Queue, scratch: Path) -> None:
        """scratch: a folder for previews and small pictures."""
        self.roots, self.queue, self.planner = roots, queue, Planner(roots)
        self._scratch, self._numbers = scratch.resolve(), itertools.count(1)
        self._addresses: dict[Path, str] = {}
        self._files: dict[str, Path] = {}
        self._frames: dict[tuple[int, Path], Path | None] = {}
        self._halves: dict[Path, tuple[Path, Path]] = {}

    def address(self, path: Path) -> str:
        """Where the page finds a file; no other files are served."""
        name = self._addresses.setdefault(path, f"{secrets.token_hex(8)}{path.suffix}")
        self._files[name] = path
        return f"shown/{name}"

    def file_at(self, name: str) -> Path | None:
        """The file of an address."""
        return self._files.get(name)

    def open(self, text: str) -> tuple[VideoInfo, str]:
        """Look at a file: the facts; frames of it and what `starvsr info` says, as HTML. Raises StarvsrError."""
        path = self.roots.source(text)
        info = probe(path)
        told = subprocess.run(
            [*PROGRAM, "info", str(path)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=speaking_utf8(),
            check=False,
        )
        folder = self._scratch / f"strip-{next(self._numbers)}"
        folder.mkdir()
        frames = pictures.frame_strip(info, folder)
        strip = markup.strip([(time_s, self.address(path)) for time_s, path in frames])
        return info, strip + markup.details("what starvsr info says", told.stdout or told.stderr)

    def keep_dropped(self, upload: Path) -> Path:
        """Move a dropped file to a folder that stays, or remove it. Raises StarvsrError, OSError."""
        if not upload.resolve().is_relative_to(self._scratch):
            raise UsageError(f"{upload} was not dropped on this page")
        try:
            return self._kept(upload)
        finally:
            remove_file(upload, Right.TEMPORARY)

    def _kept(self, upload: Path) -> Path:
        folder = self.roots.inside(DROPPED)
        folder.mkdir(exist_ok=True)
        names = (f"{upload.stem}-{n}{upload.suffix}" for n in itertools.count(2))
        target = next(
            folder / name
            for name in itertools.chain([upload.name], names)
            if not (folder / name).exists()
        )
        with (
            complete_or_absent(target) as temporary,
            upload.open("rb") as sent,
            temporary.open("xb") as kept,
        ):
            shutil.copyfileobj(sent, kept)
        return target

    def preview(self, chosen: Chosen, seconds: float, at_s: float) -> Task:
        """Restore some seconds, before everything that waits. Raises StarvsrError."""
        source, place = chosen.places(self.roots)
        # Of all containers, browsers play this one, but not every encoder's stream is allowed in it.
        suffix = ".mp4" if chosen.options().encode.codec == "auto" else place.suffix
        target = self._scratch / f"{next(self._numbers)}{suffix}"
        options = {**flags_of(chosen.options()), "--overwrite": False, "--subtitles": "none"}
        span = ("--preview", f"{seconds:g}", "--at", f"{at_s:g}")
        words = (*upscale_command(source, target, options), *span)
        return self.queue.add(Task(words, target, f"preview: {chosen.name()}"), first=True)

    def suggest(self, file: str) -> Task:
        """Measure a video and try what that advises, before everything that waits. Raises StarvsrError."""
        source = self.roots.source(file)
        sheet = self._scratch / f"{next(self._numbers)}.png"
        words = ("tune", str(source), "--sheet", str(sheet))
        return self.queue.add(Task(words, sheet, f"suggestions for {source.name}"), first=True)

    def start(self, chosen: Chosen) -> Task:
        """Put a job into the queue. Raises StarvsrError."""
        _, target = chosen.places(self.roots)
        return self.queue.add(Task(tuple(chosen.command(self.roots)), target))

    def download(self, model: str) -> Task:
        """Fetch a model's files. Raises StarvsrError."""
        if model not in SPECS or not fetched_components(model):
            raise UsageError(f"the model {model} has no files to download: choose another")
        words, place = ("download-weights", model), weights_folder() / model
        return self.queue.add(Task(words, place, f"weights of {model}"))

    def begun(self, folder: Path) -> list[Begun]:
        """Jobs found in a folder that the queue does not know."""
        known = {task.work_dir for task in self.queue.tasks if not task.label}
        return [each for each in begun_in(folder, self.roots) if each.folder not in known]

    def resume(self, key: str | None, *, overwrite: bool) -> None:
        """Continue a stopped or failed task, or a job that was found. Raises StarvsrError.

        overwrite: replace an existing output, of which a journal says nothing.
        """
        more = ("--overwrite",) if overwrite else ()
        if (task := self._task(key)) is not None:
            if task.state == "done":
                raise UsageError(f"{task.label or task.target} is done: choose another job")
            if not task.label and "--overwrite" not in task.arguments:
                task.arguments += more
            self.queue.add(task)
            return
        found = self._found(key)
        if not found.arguments:
            raise UsageError(found.problem)
        self.queue.add(Task((*found.arguments, *more), found.target))

    def finish(self, key: str | None, *, overwrite: bool) -> None:
        """Write a playable file of what is finished. Raises StarvsrError."""
        folder = self._work_dir(key)
        # What lies there may be another job than the page's own.
        if not (found := self._found(str(folder))).can_finish:
            raise UsageError(found.problem)
        target = folder.with_name(f"{folder.name} (partial)")
        words = ("finish", str(folder), *(["--overwrite"] if overwrite else []))
        self.queue.add(Task(words, target, f"partial file of {folder.name}"))

    def discard(self, key: str | None) -> None:
        """Remove what a job has finished, and forget it. Raises StarvsrError."""
        task = self._task(key)
        if task is not None and task.is_active:
            raise UsageError(f"{task.target} is in the queue: stop it first")
        if task is None or task.work_dir.exists():
            discard(self._work_dir(key))
        if task is not None:
            self.queue.remove(task)

    def stop(self, key: str | None) -> None:
        """Stop a task that waits or runs. Raises UsageError."""
        task = self._task(key)
        if task is None or not task.is_active:
            raise UsageError("this job is not running: choose one that is")
        self.queue.stop(task)

    def previews(self) -> dict[str, tuple[Path, Path, Path]]:
        """Finished previews: input, result and video by name, the newest last."""
        found = {}
        for task in self.queue.tasks:
            if task.state == "done" and task.result.get("event") == "preview":
                picture = Path(task.result["picture"])
                if picture not in self._halves:
                    try:
                        self._halves[picture] = pictures.halves(picture)
                    except OSError:
                        # Removed by somebody; the task is still listed.
                        continue
                name = f"{task.number}: {task.label.removeprefix('preview: ')}"
                found[name] = (*self._halves[picture], Path(task.result["target"]))
        return found

    def picture(self, task: Task) -> Path | None:
        """The newest finished frame of a job, or the sheet of suggestions."""
        if task.result.get("event") == "tuned":
            return task.target
        found = None if task.label else pictures.newest_part(task.work_dir)
        if found is None:
            return None
        if found not in self._frames:
            place = self._scratch / f"frame-{next(self._numbers)}.jpg"
            self._frames[found] = pictures.last_frame(found[1], place)
        return self._frames[found]

    def film(self, task: Task) -> Path | None:
        """The file that a job has written, if a browser may play it."""
        target = Path(task.result.get("target", ""))
        is_film = task.state == "done" and not task.label and target.suffix in _FILMS
        return target if is_film else None

    def _task(self, key: str | None) -> Task | None:
        return next((task for task in self.queue.tasks if str(task.number) == key), None)

    def _found(self, key: str | None) -> Begun:
        folder = self.roots.inside(key or "")
        for each in begun_in(folder.parent, self.roots):
            if each.folder == folder:
                return each
        raise UsageError("choose a job first")

    def _work_dir(self, key: str | None) -> Path:
        task = self._task(key)
        return self._found(key).folder if task is None else task.work_dir
