"""Several processes that fill one weights folder, and processes that are killed while they do."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from starvsr.zoo.hashes import file_sha256
from starvsr.zoo.install import install
from starvsr.zoo.planning import plan_install
from starvsr.zoo.verify import verify
from tests.zoo.hub_server import Fault, HubServer, use_hub
from tests.zoo.published import SMALL_COMPONENTS, small_models

ALL = tuple(SMALL_COMPONENTS.values())
NETWORK = "I2VGen-XL-based/light_deg.pt"

Starter = Callable[[], BaseProcess]


def _install(folder: Path, url: str, home: Path) -> None:
    with small_models(), pytest.MonkeyPatch.context() as patch:
        use_hub(patch, url, home)
        install(ALL, folder)


@pytest.fixture
def start(hub: HubServer, tmp_path: Path) -> Iterator[Starter]:
    """Starts one more process that fills `weights`; none survives the test."""
    context = multiprocessing.get_context("forkserver")
    # Importing takes far longer than installing.
    context.set_forkserver_preload([__name__, "starvsr.zoo.text", "transformers"])
    begun: list[BaseProcess] = []

    def process() -> BaseProcess:
        arguments = (tmp_path / "weights", hub.url, tmp_path / "home")
        begun.append(context.Process(target=_install, args=arguments))
        begun[-1].start()
        return begun[-1]

    yield process
    for one in begun:
        one.kill()
        one.join()


@pytest.fixture(scope="module")
def expected(published: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The hash of every component as one undisturbed installation makes it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with small_models():
        install(ALL, folder, sources=[str(published)])
    return hashes(folder)


def hashes(folder: Path) -> dict[str, str]:
    """The hash of every component's file that is there."""
    return {path.stem: file_sha256(path) for path in folder.glob("*.safetensors")}


@pytest.mark.slow
def test_two_processes_share_the_work(
    hub: HubServer, start: Starter, tmp_path: Path, expected: dict[str, str]
) -> None:
    both = [start(), start()]
    for one in both:
        one.join(120)
    assert [one.exitcode for one in both] == [0, 0]
    assert hashes(tmp_path / "weights") == expected
    assert [found.state for found in verify(tmp_path / "weights", ALL)] == ["ok"] * 3
    # Whoever came second waited, and found it done.
    assert len(hub.bodies(NETWORK)) == 1


@pytest.mark.slow
def test_kill_in_a_download_loses_only_what_was_under_way(
    hub: HubServer, start: Starter, tmp_path: Path, expected: dict[str, str]
) -> None:
    folder = tmp_path / "weights"
    hub.fail("GET", NETWORK, Fault(stall_after=100_000))
    one = start()
    # The last bytes may still be in a buffer.
    begun = wait_for(lambda: [p for p in folder.rglob("*.pt") if p.stat().st_size > 80_000])
    one.kill()
    one.join()
    assert one.exitcode == -signal.SIGKILL
    size = begun[0].stat().st_size
    assert "small-star" not in hashes(folder)
    install(ALL, folder)
    assert hub.bodies(NETWORK) == ["", f"bytes={size}-"]
    assert hashes(folder) == expected


def wait_for(found: Callable[[], list[Path]], limit_s: float = 60) -> list[Path]:
    """What `found` gives once it gives something."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if paths := found():
            return paths
        time.sleep(0.01)
    raise AssertionError("nothing came")


@pytest.mark.slow
def test_kills_at_any_moment_leave_nothing_that_is_taken_for_whole(
    hub: HubServer, start: Starter, tmp_path: Path, expected: dict[str, str]
) -> None:
    folder, moments = tmp_path / "weights", random.Random(3)
    killed = 0
    for _ in range(8):
        one = start()
        time.sleep(moments.uniform(0.05, 1.0))
        one.kill()
        one.join()
        killed += one.exitcode == -signal.SIGKILL
        there = hashes(folder)
        for component in plan_install(ALL, folder).present:
            assert there[component.name] == expected[component.name]
        if one.exitcode == 0:
            shutil.rmtree(folder)
    assert killed >= 3
    install(ALL, folder)
    assert hashes(folder) == expected
    assert [found.state for found in verify(folder, ALL)] == ["ok"] * 3
    assert not (folder / ".downloads").exists()
