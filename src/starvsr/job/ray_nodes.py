"""The machines of a Ray cluster: which exist, which respond, and the resources that all have."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from starvsr.errors import StarvsrError, UsageError
from starvsr.models.device import device_info
from starvsr.types import DeviceInfo

logger = logging.getLogger(__name__)

_ANSWER_S = 10.0


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connected to the cluster, unless the caller already is. Raises UsageError."""
    # Ray reads it on import; otherwise it would report lost machines on standard output.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ImportError as error:
        raise UsageError("--cluster needs Ray: pip install 'starvsr[cluster]'") from error
    if ray.is_initialized():
        yield
        return
    try:
        _check_answer(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(
            f"--cluster {address}: no Ray cluster responds there; start one with `ray start`, which prints the "
            "address, or give --workers for this machine alone"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answer(address: str) -> None:
    """Raise OSError if nothing listens, which Ray itself would find after minutes, ValueError for a bad address."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host:
        raise ValueError(address)
    socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()


def able_nodes(resource: str, least: int) -> list[dict[str, Any]]:
    """Machines with at least this many `GPU` or `CPU`."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"] and node["Resources"].get(resource, 0) >= least]


def task_of(function: Any, **options: Any) -> Any:
    """A function as a Ray task."""
    import ray

    return ray.remote(**options)(function)


def answers_of(
    able: Sequence[dict[str, Any]], function: Any, *arguments: Any, **needed: Any
) -> list[tuple[dict[str, Any], Any]]:
    """These machines and a function's result on each, without lost ones.

    needed: resources, besides which it takes no processor. Raises what the function raises, UsageError where it
    is not there.
    """
    import ray

    ask = task_of(function, num_cpus=0, **needed)
    asked = [(node, ask.options(**at_node(node["NodeID"])).remote(*arguments)) for node in able]
    answers = []
    for node, task in asked:
        try:
            answers.append((node, ray.get(task)))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, StarvsrError):
                raise error.cause from error
            raise UsageError(
                f"{node['NodeManagerHostname']} cannot run starvsr {version('starvsr')}: install it there as it is here"
            ) from error
        except ray.exceptions.RayError as error:
            # Ray considers a machine alive until it has not responded for a while.
            name = node["NodeManagerHostname"]
            logger.warning("%s no longer responds: the job continues without it", name)
            logger.debug("of Ray", exc_info=error)
    return answers


def own_node() -> str:
    """The node of this process."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def at_node(node: str) -> dict[str, Any]:
    """Options of a task that must run on one machine."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def cluster_device(address: str, asked: str) -> DeviceInfo:
    """The resources available to every task: the least of any machine. Raises UsageError if it has none.

    asked: `--device`. A machine without a GPU does one task at a time for as many threads as the smallest one has.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {asked} does not go with --cluster: give auto, cpu or cuda")
    with connected(address):
        gpus = able_nodes("GPU", 1)
        on_gpu = asked == "cuda" or (asked == "auto" and bool(gpus))
        able = gpus if on_gpu else able_nodes("CPU", 1)
        if not able:
            raise UsageError(
                f"no machine of the cluster has a {'GPU' if on_gpu else 'free CPU'}: "
                "give another --device, or start machines with `ray start`"
            )
        # A task sees only the GPUs assigned to it.
        gpu = 1 if on_gpu else 0
        answers = answers_of(able, device_info, "cuda" if on_gpu else "cpu", num_gpus=gpu)
    if not answers:
        raise UsageError("no machine of the cluster responds: start machines with `ray start`")
    processors = [int(node["Resources"].get("CPU", 1)) for node, _ in answers]
    found: list[DeviceInfo] = [device for _, device in answers]
    threads = min(processors)
    tasks = [1 if on_gpu else count // threads for count in processors]
    free_bytes = [device.memory_bytes // count for device, count in zip(found, tasks, strict=True)]
    count = "1 machine" if len(found) == 1 else f"{len(found)} machines"
    description = f"{found[0].description} of {count}"
    return DeviceInfo(found[0].name, description, min(free_bytes), threads)
