"""How fast this machine has restored with each model, kept from finished jobs for the estimates of `starvsr plan`."""

from __future__ import annotations

import json
import logging
import math

from starvsr.errors import StarvsrError
from starvsr.job.plan_job import Job
from starvsr.media.files import write_whole
from starvsr.media.removal import Right
from starvsr.media.strict_json import parse_json, read_bounded
from starvsr.plan.plan import Plan
from starvsr.zoo.folder import weights_folder

logger = logging.getLogger(__name__)

NAME = "pace.json"
"""In the weights folder: seconds per unit of `work_of`, by model, device, precision and threads."""
_MOST_BYTES = 1 << 16
_MOST_ENTRIES = 100
# In less, starting and finishing count more than the restoring.
_LEAST_S = 2.0


def keep_pace(job: Job, seconds: float) -> None:
    """Keep how long a whole job took, without loading the model; a job of a few seconds says nothing.

    A folder that cannot be written is no reason to fail: then there are no estimates.
    """
    if seconds < _LEAST_S:
        return
    try:
        paces = _paces(job)
        paces.pop(_key(job), None)
        paces[_key(job)] = seconds / work_of(job.plan)
        newest = dict(list(paces.items())[-_MOST_ENTRIES:])
        folder = weights_folder(job.options.weights.folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / NAME, json.dumps(newest, indent=1).encode(), Right.FETCHED)
    except (OSError, StarvsrError) as error:
        logger.debug("the pace of this job is not kept: %s", error)


def expected_s(job: Job) -> float | None:
    """About how long a job takes here, seconds; None if no such job has been done here."""
    pace = _paces(job).get(_key(job))
    return None if pace is None else pace * work_of(job.plan)


def _paces(job: Job) -> dict[str, float]:
    try:
        path = weights_folder(job.options.weights.folder) / NAME
        found = parse_json(read_bounded(path, _MOST_BYTES).decode(), _MOST_BYTES)
    except (OSError, ValueError, StarvsrError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: pace for key, pace in pairs if isinstance(pace, float) and pace > 0}


def _key(job: Job) -> str:
    device = f"{job.device.description}, {job.device.threads} threads"
    workers = f"{job.options.workers.count} workers"
    return f"{job.choice.spec.name}, {job.plan.precision}, {device}, {workers}"


def work_of(plan: Plan) -> float:
    """What the time grows with: the pixels that windows cover, times the network calls of each window."""
    windows = sum(len(plan.grid(segment.pictures)) for segment in plan.segments)
    pixels = plan.pictures * math.prod(plan.restored_size) * plan.overlap_cost
    return pixels * plan.network_calls / windows
