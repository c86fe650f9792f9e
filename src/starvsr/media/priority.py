"""SVT-AV1 gives its threads, and the one that opens it, real-time priority if it may, as root. Everything
else on the machine, including this program's network, would then wait for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def usual_priority() -> Iterator[None]:
    """An encoder opened in the `with` block gets the priority that this thread had before, and so does this thread.

    On Linux; elsewhere SVT-AV1 requests none.
    """
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in Path("/proc/self/task").iterdir():
                # It may have ended meanwhile.
                with suppress(OSError):
                    os.sched_setscheduler(int(thread.name), policy, parameters)
