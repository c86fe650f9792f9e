"""A Ray cluster of separate hosts that loses one: is the file the same as from one process?

    sudo python benchmarks/hosts.py examples/butterfly.mp4 [--loss none killed "link cut"] [--place shared sent]

Linux only, as root, with Ray (extra `cluster`), iproute2 and util-linux. A head and two workers are namespaces
(network, mounts, processes, name) on a bridge in the head's, each with a folder and a /dev/shm of its own. They end
with this process, and nothing outside of them changes. The caller runs on the head, which offers no CPUs.
*shared*: input and output are in a folder that all hosts see; *sent*: in the head's own, so input and parts travel
through Ray's object store. A host is lost in the middle of a segment: all its processes killed (-9), or its link taken
down at the bridge, for good or for some seconds; or before the job, while Ray considers it alive. Prints for each case
how long the job took and how long after the loss a segment was restarted. Exit code 1 where a file differs from the
one of a single process.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import av

PORT = 6379
# Matroska would have a random identity in each file.
TARGET = "out.mp4"
BLIP_S = 5.0
LOST_AT = 0.3
"""Fraction of the frames restored before a host is lost."""
POLL_S = 0.05


class Host:
    """A machine of its own as far as its processes can tell; they all end with the context."""

    def __init__(self, name: str, number: int, own: Path) -> None:
        """own: a folder that is another one on every host."""
        self.name, self.own, self.address = name, own, f"10.77.0.{number}"
        self._started: list[subprocess.Popen[str]] = []
        script = (
            f"hostname {name} && ip link set lo up && mount -t tmpfs none {own} "
            "&& mount -t tmpfs none /dev/shm && echo ready && exec cat"
        )
        command = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        # `cat` ends with this process, and with it all that is on the host.
        self._holder = subprocess.Popen(
            [*command, "--mount-proc", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise SystemExit("error: namespaces are not allowed here, so hosts cannot be created")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self.pid = int(children.read_text())
        """Of the process that holds the namespaces."""

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._holder, *self._started):
            process.kill()
            process.communicate()

    def command(self, *arguments: str) -> list[str]:
        """A command to be run on this host."""
        return [
            "nsenter",
            "--target",
            str(self.pid),
            "--net",
            "--mount",
            "--uts",
            "--pid",
            *arguments,
        ]

    def ip(self, *arguments: str) -> None:
        """Change this host's network, as `ip` does."""
        # In the network alone, since processes are named as they are seen from outside.
        enter = ["nsenter", "--target", str(self.pid), "--net"]
        subprocess.run([*enter, "ip", *arguments], check=True)

    def start_ray(self, *options: str) -> None:
        """Start Ray with these options, and with what all hosts have."""
        command = self.command(str(Path(sys.executable).with_name("ray")), "start", "--block")
        command += [f"--node-ip-address={self.address}", "--num-gpus=0", "--disable-usage-stats"]
        command += ["--object-store-memory=100000000", *options]
        environment = {**os.environ, "TMPDIR": str(self.own)}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._started.append(process)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "will now block forever" in line:
                return
        raise SystemExit(f"error: Ray does not start on {self.name}: {''.join(said)}")

    def processes(self) -> list[int]:
        """All processes on this host but the one that holds it."""
        space = Path(f"/proc/{self.pid}/ns/pid").readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "ns/pid").readlink() == space:
                    found.append(int(entry.name))
            except OSError:
                continue
        return [pid for pid in found if pid != self.pid]

    def kill(self) -> None:
        """Kill all processes at once."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


class Network:
    """A head and two workers on a bridge, with a Ray cluster."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.own = folder / "own"
        self.own.mkdir(exist_ok=True)
        names = ("head", "worker1", "worker2")
        hosts = [stack.enter_context(Host(n, i + 1, self.own)) for i, n in enumerate(names)]
        self.head, *self.workers = hosts
        self.place = f"{self.head.address}:{PORT}"
        self.head.ip("link", "add", "hub", "type", "bridge")
        self.head.ip("address", "add", f"{self.head.address}/24", "dev", "hub")
        self.head.ip("link", "set", "hub", "up")
        for worker in self.workers:
            ends = ["link", "add", worker.name, "type", "veth", "peer", "name", "eth0"]
            self.head.ip(*ends, "netns", str(worker.pid))
            self.head.ip("link", "set", worker.name, "master", "hub", "up")
            worker.ip("address", "add", f"{worker.address}/24", "dev", "eth0")
            worker.ip("link", "set", "eth0", "up")
        temporary = str(self.own / "ray")
        head = ["--head", f"--port={PORT}", f"--temp-dir={temporary}", "--num-cpus=0"]
        self.head.start_ray(*head, "--include-dashboard=false")
        for worker in self.workers:
            worker.start_ray(f"--address={self.place}", "--num-cpus=1")

    def set_link(self, worker: Host, state: str) -> None:
        """state: `up` or `down`."""
        self.head.ip("link", "set", worker.name, state)


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    seconds: float
    restarts: list[float]
    """When segments were restarted, in seconds after the loss of a host."""
    named: list[float]
    """When the loss of the host was reported."""
    digests: tuple[str, str]
    """Of the file and of its decoded frames."""


Loss = Callable[[Network, Host], None]


def kill(_: Network, host: Host) -> None:
    """All processes of a host."""
    host.kill()


def cut(network: Network, host: Host) -> None:
    """The link of a host, for good."""
    network.set_link(host, "down")


def blip(network: Network, host: Host) -> None:
    """The link of a host, for some seconds."""
    network.set_link(host, "down")
    time.sleep(BLIP_S)
    network.set_link(host, "up")


BEFORE = "link cut before"
LOSSES: dict[str, Loss | None] = {
    "none": None,
    BEFORE: None,
    "killed": kill,
    "link cut": cut,
    f"link cut for {BLIP_S:.0f} s": blip,
}
PLACES = ("shared", "sent")


class FailedError(Exception):
    """A job failed."""


class Watched:
    """A running `starvsr upscale` whose progress is read."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.began = time.monotonic()
        self.done = 0.0
        """Fraction of the frames restored."""
        self.said: list[str] = []
        self.restarts: list[float] = []
        """When segments were restarted."""
        self.named: list[float] = []
        """When the loss of a host was reported."""
        self._shares: dict[int, float] = {}
        """How far segments are."""
        self.process = subprocess.Popen(
            [*command, "--progress", "json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait(self) -> float:
        """Seconds that it took. Raises FailedError."""
        self._reader.join()
        if self.process.wait():
            raise FailedError(f"code {self.process.returncode}: {''.join(self.said)}")
        assert self.process.stdout is not None
        if said := self.process.stdout.read():
            raise FailedError(f"standard output contains something that is not a result: {said}")
        return time.monotonic() - self.began

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if not line.startswith("{"):
                self.said.append(line)
                if " is lost: " in line:
                    self.named.append(time.monotonic())
                continue
            event = json.loads(line)
            if event["stage"] != "restore" or not event["segment"]:
                continue
            self.done = event["done"] / event["total"]
            segment = event["segment"]
            number, share = segment["number"], segment["done"] / segment["total"]
            if share < self._shares.get(number, 0.0):
                self.restarts.append(time.monotonic())
            self._shares[number] = share

    def is_inside(self, workers: int) -> bool:
        """Whether so many workers are in the middle of a segment, and some segments are finished."""
        inside = [share for share in list(self._shares.values()) if 0.1 < share < 0.9]
        return len(inside) == workers and self.done > LOST_AT


def lose(network: Network, job: Watched, loss: Loss) -> float:
    """Lose a host in the middle of a segment, later than at its first one; when that was. Raises FailedError."""
    while job.process.poll() is None:
        if job.is_inside(len(network.workers)):
            lost = time.monotonic()
            loss(network, network.workers[0])
            return lost
        time.sleep(POLL_S)
    job.wait()
    raise FailedError(f"the job ended before a host was lost: {''.join(job.said)}")


def on_hosts(name: str, place: str, clip: Path, folder: Path, options: Sequence[str]) -> Outcome:
    """Upscale a clip on a network of its own, and lose a host on the way where the case says so.

    Raises FailedError.
    """
    with ExitStack() as stack:
        network = Network(folder, stack)
        if name == BEFORE:
            cut(network, network.workers[0])
        inside = network.own
        # The head's own folder, as it is seen from here.
        work = Path("/proc", str(network.head.pid), "root", inside.relative_to("/"))
        if place == "shared":
            inside = work = Path(stack.enter_context(TemporaryDirectory(dir=folder)))
        shutil.copy(clip, work / clip.name)
        paths = [str(inside / file) for file in (clip.name, TARGET)]
        command = network.head.command(*upscale(*paths, "--cluster", network.place, *options))
        job = Watched(command, {**os.environ, "TMPDIR": str(network.own)})
        loss = LOSSES[name]
        lost = lose(network, job, loss) if loss else 0.0
        seconds = job.wait()
        left = sorted(path.name for path in work.iterdir() if path.name != "ray")
        if left != sorted([clip.name, TARGET]):
            raise FailedError(f"files were left behind: {left}")
        restarts, named = ([at - lost for at in times] for times in (job.restarts, job.named))
        return Outcome(seconds, restarts, named, digests(work / TARGET))


def alone(clip: Path, folder: Path, options: Sequence[str]) -> Outcome:
    """Upscale a clip by one process with as many threads as a worker has."""
    target = folder / TARGET
    job = Watched(upscale(str(clip), str(target), *options), {**os.environ, "OMP_NUM_THREADS": "1"})
    return Outcome(job.wait(), [], [], digests(target))


def upscale(*arguments: str) -> list[str]:
    """The command line with these arguments."""
    return [sys.executable, "-m", "starvsr", "upscale", *arguments]


def digests(path: Path) -> tuple[str, str]:
    """Of a file, and of its decoded frames with their times."""
    frames = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.update(f"{frame.pts}".encode())
            frames.update(frame.to_ndarray().tobytes())
    return hashlib.sha256(path.read_bytes()).hexdigest(), frames.hexdigest()


def check_system() -> None:
    """End this process if hosts cannot be created."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise SystemExit(
            "error: hosts are namespaces, which only root can create, and only on Linux"
        )
    tools = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    if tools:
        raise SystemExit(f"error: {', '.join(tools)} not found: install iproute2 and util-linux")
    if importlib.util.find_spec("ray") is None:
        raise SystemExit("error: Ray is not installed: pip install 'starvsr[cluster]'")


def main() -> int:
    """Exit code: 1 where a file differs."""
    parser = argparse.ArgumentParser(description="A Ray cluster of hosts some of which are lost.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--loss", choices=LOSSES, nargs="+", default=list(LOSSES))
    parser.add_argument("--place", choices=PLACES, nargs="+", default=PLACES)
    parser.add_argument("--scale", default="4")
    parser.add_argument("--segment-frames", default="18")
    asked = parser.parse_args()
    check_system()
    options = ["--scale", asked.scale, "--segment-frames", asked.segment_frames]
    failed = False
    with TemporaryDirectory(prefix="hosts") as name:
        folder = Path(name)
        wanted = alone(asked.clip, folder, options)
        print(f"{'one process, one thread':32} {wanted.seconds:6.1f} s", flush=True)
        for loss, place in itertools.product(asked.loss, asked.place):
            print(f"{place:6} {loss:25}", end=" ", flush=True)
            try:
                made = on_hosts(loss, place, asked.clip, folder, options)
            except FailedError as error:
                failed = True
                print(f"FAILED: {error}", flush=True)
                continue
            failed = failed or made.digests != wanted.digests
            print(report(made, wanted), flush=True)
    return int(failed)


def report(made: Outcome, wanted: Outcome) -> str:
    """How long a job took, whether its file is right, and what was restarted."""
    file, frames = (
        "equal" if own == other else "DIFFERENT"
        for own, other in zip(made.digests, wanted.digests, strict=True)
    )
    named, anew = (
        ", ".join(f"{seconds:.1f} s" for seconds in times) or "-"
        for times in (made.named, made.restarts)
    )
    return (
        f"{made.seconds:6.1f} s, file {file}, frames {frames}, "
        f"after the loss: named {named}, segments restarted {anew}"
    )


if __name__ == "__main__":
    sys.exit(main())
