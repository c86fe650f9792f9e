#!/usr/bin/env bash
# Question:  What does a program see whose signal handler raises while safetensors loads tensors for torch: Ctrl-C, a
#            SIGTERM handler, an alarm?
# Guess:     What the handler raised, say KeyboardInterrupt: nothing between it and the program handles that.
# Behaviour: Often a ValueError of a shape that "could not" be determined, without a cause and without a context.
#            safetensors takes a part of a storage and hands it to torch.asarray, which asks the storage's Python
#            methods for its elements and makes an error of its own of whatever these raise. So Ctrl-C looks like a
#            damaged file, and a loop over files that skips damaged ones cannot be interrupted there.
# Versions:  torch 2.13.0, safetensors 0.8.0, numpy 2.4.6, Python 3.11; 44 of 100 interruptions at random moments
# Seen:      first look interrupted: KeyboardInterrupt; second: ValueError, cause None, context None; alarms: both
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 safetensors==0.8.0 numpy==2.4.6

seen=$(
    venv/bin/python - <<'PYTHON'
import signal
import time

import torch
from safetensors.torch import load_file, save_file

save_file({f"t{number}": torch.zeros(1000) for number in range(2000)}, "many.safetensors")
original = torch.UntypedStorage.__getitem__


def interrupted_in(call):
    """The error of a load in which the `call`-th look at a storage is interrupted."""
    calls = 0

    def look(storage, index):
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return original(storage, index)

    torch.UntypedStorage.__getitem__ = look
    try:
        load_file("many.safetensors")
    except BaseException as error:
        return error
    finally:
        torch.UntypedStorage.__getitem__ = original


first, second = interrupted_in(1), interrupted_in(2)
print("first", type(first).__name__)
print("second", type(second).__name__, second.__cause__, second.__context__)
print(*str(second).split()[:6])

# The same with real signals.
started = time.perf_counter()
load_file("many.safetensors")
took = time.perf_counter() - started
signal.signal(signal.SIGALRM, signal.default_int_handler)
kinds = set()
for number in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, took * (0.2 + number / 100))
        load_file("many.safetensors")
        time.sleep(5 * took)
    except BaseException as error:
        kinds.add(type(error).__name__)
print("alarms", *sorted(kinds))
PYTHON
)
expected='first KeyboardInterrupt
second ValueError None None
could not determine the shape of
alarms KeyboardInterrupt ValueError'
if [[ $seen != "$expected" ]]; then
    printf 'changed:\n%s\n' "$seen"
    exit 1
fi
printf '%s\n' "$seen"
