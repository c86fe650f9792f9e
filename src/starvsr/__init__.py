"""starvsr: upscale real videos of any length with STAR.

    import starvsr

    starvsr.upscale_video("in.mp4", "out.mp4")                      # a file, with audio and timing
    restored = starvsr.Restorer.from_name("nano")(frames)           # t 3 h w in [0, 1] -> t 3 4h 4w
    starvsr.Restorer.from_name("nano").stream(camera)               # frames as they come, one by one

The names below are loaded on first use, so that importing starvsr costs nothing (torch takes seconds).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starvsr.errors import StarvsrError
    from starvsr.job.executor import LastModel
    from starvsr.job.plan_job import Job, plan_video
    from starvsr.job.preview import Preview, PreviewResult, plan_preview, run_preview
    from starvsr.job.run import UpscaleResult, run_job, upscale_video
    from starvsr.media.shots import find_cuts
    from starvsr.options import (
        DeviceOptions,
        EncodeOptions,
        InputOptions,
        LookOptions,
        PreviewOptions,
        RangeOptions,
        ResumeOptions,
        SamplingOptions,
        SizeOptions,
        StreamOptions,
        UpscaleOptions,
        WeightsOptions,
        WindowOptions,
        WorkerOptions,
    )
    from starvsr.restore.restorer import Restorer
    from starvsr.restore.stream import FrameStream
    from starvsr.types import Progress
    from starvsr.zoo.load import load_model

__version__ = "0.1.0"

__all__ = [
    "DeviceOptions",
    "EncodeOptions",
    "FrameStream",
    "InputOptions",
    "Job",
    "LastModel",
    "LookOptions",
    "Preview",
    "PreviewOptions",
    "PreviewResult",
    "Progress",
    "RangeOptions",
    "Restorer",
    "ResumeOptions",
    "SamplingOptions",
    "SizeOptions",
    "StarvsrError",
    "StreamOptions",
    "UpscaleOptions",
    "UpscaleResult",
    "WeightsOptions",
    "WindowOptions",
    "WorkerOptions",
    "__version__",
    "find_cuts",
    "load_model",
    "plan_preview",
    "plan_video",
    "run_job",
    "run_preview",
    "upscale_video",
]

_HOMES = {
    "FrameStream": "restore.stream",
    "Job": "job.plan_job",
    "LastModel": "job.executor",
    "Preview": "job.preview",
    "PreviewResult": "job.preview",
    "Progress": "types",
    "Restorer": "restore.restorer",
    "StarvsrError": "errors",
    "UpscaleResult": "job.run",
    "find_cuts": "media.shots",
    "load_model": "zoo.load",
    "plan_preview": "job.preview",
    "plan_video": "job.plan_job",
    "run_job": "job.run",
    "run_preview": "job.preview",
    "upscale_video": "job.run",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name, "options" if name.endswith("Options") else None)
    if name not in __all__ or home is None:
        raise AttributeError(f"module 'starvsr' has no attribute {name!r}")
    value: object = getattr(import_module(f"starvsr.{home}"), name)
    if hasattr(value, "__dataclass_fields__"):
        value.__doc__ = _with_fields(value)
    globals()[name] = value
    return value


def _with_fields(group: object) -> str:
    """The docstrings of a dataclass and of its fields, which Python does not keep: `help()` shows them."""
    import ast
    import inspect
    from itertools import pairwise

    lines = [inspect.getdoc(group) or ""]
    try:
        (tree,) = ast.parse(inspect.getsource(group)).body  # type: ignore[arg-type]
    except OSError:
        # Installed without its source.
        return lines[0]
    assert isinstance(tree, ast.ClassDef)
    for field, after in pairwise([*tree.body, ast.Pass()]):
        if isinstance(field, ast.AnnAssign):
            lines += ["", ast.unparse(field)]
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                lines += [
                    f"    {line}" for line in inspect.cleandoc(str(after.value.value)).split("\n")
                ]
    return "\n".join(lines)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
