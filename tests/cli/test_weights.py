"""`starvsr download-weights`: what it shows, what it installs, and how it fails."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from starvsr.cli import weights as weights_module
from starvsr.cli.console import progress_view
from starvsr.specs import COMPONENTS
from starvsr.types import Progress
from tests.cli.conftest import Cli, listing
from tests.media.clips import Clip, make
from tests.zoo.hub_server import Fault, HubServer, hub_server, use_hub
from tests.zoo.published import SMALL_COMPONENTS, small_models, write_published

NETWORK = "I2VGen-XL-based/light_deg.pt"
MODEL = "small-star"
WHOLE = ["small-star", "small-vae", "small-clip"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All published files, as `owner/repository/path`."""
    folder = tmp_path_factory.mktemp("published")
    write_published(folder)
    return folder


@pytest.fixture
def hub(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that has everything, a product that knows the small model, and a weights folder not yet there."""
    monkeypatch.setenv("STARVSR_WEIGHTS", str(tmp_path / "weights"))
    with small_models(), hub_server(published) as server:
        use_hub(monkeypatch, server.url, tmp_path / "home")
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The weights folder of `hub`."""
    return tmp_path / "weights"


def one_object(out: str) -> dict[str, Any]:
    assert out.count("\n") == 1
    found: dict[str, Any] = json.loads(out)
    assert found["version"] == 1
    return found


def test_everything_is_listed_before_and_installed_after(
    cli: Cli, hub: HubServer, folder: Path
) -> None:
    result = cli("download-weights", MODEL, "--progress", "plain")
    assert (result.code, result.out) == (0, "")
    for (repository, path), content in hub.files.items():
        line = next(line for line in result.err.splitlines() if f" {repository}/{path} " in line)
        assert line.endswith("to download")
        assert "Stability AI Community License" in line or "MIT" in line
        assert len(content) < 1000 or "kB" in line or "MB" in line
    assert f"; {folder} needs up to " in result.err
    assert "downloading: " in result.err
    assert result.err.index("to download;") < result.err.index("downloading: ")
    assert f"{folder}: 3 of 3 installed now" in result.err
    assert sorted(path.stem for path in folder.glob("*.safetensors")) == sorted(WHOLE)
    again = cli("download-weights", MODEL, "--json")
    assert again.code == 0
    assert one_object(again.out)["present"] == WHOLE
    assert "nothing to do" in again.err


def test_result_as_json(cli: Cli, hub: HubServer, folder: Path) -> None:
    result = cli("download-weights", "small-vae", "--json", "--quiet")
    assert (result.code, result.err) == (0, "")
    found = one_object(result.out)
    assert (found["event"], found["wanted"], found["folder"]) == (
        "done",
        ["small-vae"],
        str(folder),
    )


def test_dry_run_shows_and_fetches_nothing(cli: Cli, hub: HubServer, folder: Path) -> None:
    shown = cli("download-weights", MODEL, "--dry-run")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.count("to download\n") == len(hub.files)
    told = one_object(cli("download-weights", MODEL, "--dry-run", "--json").out)
    assert told["event"] == "download-plan"
    assert told["download_bytes"] == sum(len(content) for content in hub.files.values())
    assert told["needed_bytes"] > told["download_bytes"]
    assert {file["path"] for file in told["files"]} == {path for _, path in hub.files}
    assert not folder.exists()
    assert not any(asked.method == "GET" for asked in hub.asked)


def test_dry_run_tells_what_is_there_already(
    cli: Cli, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fail("GET", NETWORK, Fault(cut_after=40_000), *[Fault(status=503)] * 5)
    assert cli("download-weights", MODEL).code == 4
    shown = cli("download-weights", MODEL, "--dry-run").out
    assert "40.0 kB already downloaded" in shown


def test_dry_run_on_a_full_disk_fails_after_the_list(
    cli: Cli, hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    shown = cli("download-weights", MODEL, "--dry-run")
    assert shown.code == 4
    assert NETWORK in shown.out
    assert "1.00 kB of free space" in shown.error


def test_list(cli: Cli, hub: HubServer, folder: Path) -> None:
    before = cli("download-weights", "--list").out
    assert f"weights folder: {folder}" in before
    rows = {line.split()[0]: line.split() for line in before.splitlines() if line}
    assert rows["nano"][1] == "embedded"
    assert rows["clip-vit-h-14"][1:4] == ["no", "3.94", "GB"]
    assert rows["svd-temporal-vae"][1:4] == ["no", "196", "MB"]
    assert rows["small-vae"][1:3] == ["no", "?"]
    assert "?: unknown offline" in before
    assert cli("download-weights", "small-vae", "--quiet").code == 0
    told = one_object(cli("download-weights", "--list", "--json").out)
    installed = {found["name"]: found["installed"] for found in told["components"]}
    assert installed["small-vae"]
    assert not installed["small-star"]
    size = next(found["size_bytes"] for found in told["components"] if found["name"] == "small-vae")
    assert size == (folder / "small-vae.safetensors").stat().st_size
    models = {found["name"]: found["installed"] for found in told["models"]}
    assert models["nano"]
    assert not models["small-star"]


def test_verify(cli: Cli, hub: HubServer, folder: Path) -> None:
    nothing = cli("download-weights", "--verify")
    assert nothing.code == 4
    assert "contains no weights to verify" in nothing.error
    assert cli("download-weights", MODEL, "--quiet").code == 0
    good = cli("download-weights", "--verify")
    assert good.code == 0
    assert [line.split()[:2] for line in good.out.splitlines()] == [[name, "ok"] for name in WHOLE]
    path = folder / "small-vae.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    bad = cli("download-weights", "--verify", "--json")
    assert bad.code == 4
    told = {found["name"]: found["state"] for found in one_object(bad.out)["components"]}
    assert told == {"small-star": "ok", "small-vae": "corrupt", "small-clip": "ok"}
    assert "small-vae in" in bad.error
    path.unlink()
    assert cli("download-weights", "--verify").code == 4


def test_folder_and_source_are_given(
    cli: Cli, hub: HubServer, folder: Path, published: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    result = cli("download-weights", MODEL, "--dir", other, "--source", published)
    assert result.code == 0
    assert f"from {published / 'small/STAR' / NETWORK}" in result.err
    assert (other / "small-star.safetensors").is_file()
    assert not folder.exists()
    assert hub.asked == []


def test_type_and_originals_are_passed_on(cli: Cli, hub: HubServer, folder: Path) -> None:
    assert cli("download-weights", MODEL).code == 0
    whole = (folder / "small-star.safetensors").stat().st_size
    assert cli("download-weights", MODEL, "--dtype", "bf16", "--keep-original").code == 0
    assert (folder / "small-star.safetensors").stat().st_size < 0.6 * whole
    assert (folder / "originals/small/STAR" / NETWORK).is_file()


def test_plan_says_what_is_converted(cli: Cli, hub: HubServer, folder: Path) -> None:
    assert cli("download-weights", MODEL).code == 0
    shown = cli("download-weights", MODEL, "--dtype", "fp16", "--dry-run")
    assert "small-star will be converted from installed files" in shown.out
    assert "0 bytes to download" in shown.out
    told = one_object(cli("download-weights", MODEL, "--dtype", "fp16", "--dry-run", "--json").out)
    assert (told["converted"], told["files"], told["download_bytes"]) == (["small-star"], [], 0)
    # Published files are wanted too, so they are fetched.
    both = cli(
        "download-weights", MODEL, "--dtype", "fp16", "--dry-run", "--json", "--keep-original"
    )
    assert one_object(both.out)["converted"] == []
    assert "was made from published files, which are to be kept: they are fetched" in both.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["star-huge"],
            "the model star-huge is unknown: did you mean star-heavy? give one of all, nano, star-light",
        ),
        (["--list", "--verify"], "contradict each other"),
        (["--source", "./nowhere"], "neither a folder that exists nor a repository"),
        (["--quiet", "--verbose"], "contradict each other"),
        (
            ["--verify", "--source", "a/b"],
            "--verify downloads nothing, so --source would have no effect",
        ),
        (
            ["--list", "--dtype", "fp16"],
            "--list downloads nothing, so --dtype would have no effect",
        ),
        (
            ["--verify", "--keep-original", "--dtype", "bf16"],
            "so --dtype and --keep-original would have no effect: leave out",
        ),
    ],
)
def test_usage(cli: Cli, hub: HubServer, folder: Path, arguments: list[str], message: str) -> None:
    result = cli("download-weights", *arguments)
    assert result.code == 2
    assert message in result.error
    assert not folder.exists()


def test_model_names(hub: HubServer) -> None:
    def names(*models: str) -> list[str]:
        return [component.name for component in weights_module.components_named(models)]

    assert names("star-light") == ["star-light", "svd-temporal-vae", "clip-vit-h-14"]
    assert names("star-light", "star-heavy") == [*names("star-light"), "star-heavy"]
    assert names("nano") == []
    assert names("clip-vit-h-14") == ["clip-vit-h-14"]
    assert set(names("all")) == set(COMPONENTS)
    assert set(SMALL_COMPONENTS) < set(COMPONENTS)


def test_embedded_model_needs_nothing(cli: Cli, hub: HubServer, folder: Path) -> None:
    result = cli("download-weights", "nano")
    assert result.code == 0
    assert "nothing to do" in result.err
    assert not folder.exists()
    assert hub.asked == []


def test_gated_without_network_and_moved_are_weights_errors(
    cli: Cli, hub: HubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated["small/video-diffusion"] = 401
    gated = cli("download-weights", MODEL)
    assert gated.code == 4
    assert "accept its licence" in gated.error
    hub.gated.clear()
    content = hub.files.pop(("small/STAR", NETWORK))
    hub.files["small/STAR", "README.md"] = b""
    moved = cli("download-weights", MODEL)
    assert moved.code == 4
    assert f"small/STAR/{NETWORK} does not exist on" in moved.error
    hub.files["small/STAR", NETWORK] = content
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")
    alone = cli("download-weights", MODEL)
    assert alone.code == 4
    assert "no answer from http://127.0.0.1:9" in alone.error
    assert "starvsr download-weights --source" in alone.err
    assert not folder.exists()


SCRIPT = """
import signal
import sys
import pytest
from pathlib import Path
from starvsr.cli.app import main
from tests.zoo.hub_server import use_hub
from tests.zoo.published import small_models
# Where these tests run in the background of a shell, Ctrl-C comes ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[1:] = ["download-weights", "small-star", "--dir", sys.argv[1]]
with small_models():
    main()
"""


WAIT = Fault(429, {"Retry-After": "60"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "method", "faults", "kept"),
    [
        # Told to wait, in the middle of a body that no longer comes, and before any answer.
        (signal.SIGINT, "GET", [Fault(cut_after=100_000), *[WAIT] * 9], [100_000]),
        (signal.SIGTERM, "GET", [Fault(stall_after=100_000)], [100_000]),
        (signal.SIGINT, "HEAD", [WAIT] * 9, []),
        (signal.SIGTERM, "HEAD", [Fault(silent=True)] * 9, []),
    ],
)
def test_interruption_is_heard_at_once_and_keeps_what_was_fetched(
    hub: HubServer,
    folder: Path,
    tmp_path: Path,
    number: signal.Signals,
    method: str,
    faults: list[Fault],
    kept: list[int],
) -> None:
    hub.fail(method, NETWORK, *faults)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
    command = [sys.executable, "-c", SCRIPT, str(folder)]

    def sizes() -> list[int]:
        return [path.stat().st_size for path in folder.rglob("*.pt")]

    def asked() -> int:
        return sum(a.method == method and a.path == NETWORK for a in hub.asked)

    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as running:
        end = time.monotonic() + 60
        while (sizes() != kept or not asked()) and time.monotonic() < end:
            time.sleep(0.02)
        assert sizes() == kept
        time.sleep(0.5)
        running.send_signal(number)
        # Far less than what it waits for: 60 s where it is told to, 30 s for bytes that do not come.
        _, said = running.communicate(timeout=8)
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "downloaded data is kept; the same command resumes" in said
    assert "Traceback" not in said
    assert sizes() == kept
    assert not list(folder.glob("*.safetensors"))


def test_download_progress_counts_bytes(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_view("plain", quiet=False) as view:
        view(Progress("download", 1_000_000, 8_000_000))
        time.sleep(0.02)
        view(Progress("download", 3_000_000, 8_000_000))
        view(Progress("convert", 1, 3, "star-light"))
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("downloading: 3.00 MB of 8.00 MB, ")
    # What was there before is not counted as fetched: 2 MB in some 20 ms, and no more.
    rate = float(lines[0].split(", ")[1].split()[0])
    assert "MB/s" in lines[0]
    assert rate <= 100
    assert lines[1].startswith("converting: 1/3 files")


def test_rich_progress_counts_bytes(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_view("rich", quiet=False) as view:
        view(Progress("download", 8_000_000, 8_000_000))
        view(Progress("restore", 3, 12))
    shown = capfd.readouterr().err
    assert "8.00 MB of 8.00 MB" in shown
    assert "3/12" in shown
    assert "frames" not in shown


def test_refused_run_leaves_the_folder_as_it_was(cli: Cli, hub: HubServer, folder: Path) -> None:
    assert cli("download-weights", "small-vae").code == 0
    before = listing(folder)
    hub.gated["small/STAR"] = 403
    assert cli("download-weights", MODEL).code == 4
    assert listing(folder) == before


def test_a_plan_names_the_command_that_fills_its_own_folder(
    cli: Cli, hub: HubServer, tmp_path: Path
) -> None:
    """What the command brings is what the plan lacked."""
    clip, mine = make(tmp_path / "clip.mkv", Clip(frames=2)), tmp_path / "my weights"
    arguments = ("plan", clip, "--model", MODEL, "--weights-dir", mine)
    said = cli(*arguments).out
    (line,) = [line for line in said.splitlines() if line.startswith("missing")]
    command = shlex.split(line.partition("`")[2].partition("`")[0])
    assert command == ["starvsr", "download-weights", MODEL, "--dir", str(mine)]
    assert cli(*command[1:], "-q").code == 0
    assert "missing" not in cli(*arguments).out
