"""Files that people have, given by path or as a source: the rows of the table in `docs/models.md`."""

from __future__ import annotations

import datetime
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.conftest import Cli, listing
from tests.zoo.hub_server import COMMIT, HubServer, hub_server, use_hub
from tests.zoo.people import cut, star, two_models, write_star, write_tensors_named
from tests.zoo.published import install_small, open_clip_state, write_published
from tests.zoo.published_cogvideox import install_small_cogvideox, sat_checkpoint, small_cogvideox

TAKEN = "--model and --source take STAR's light_deg.pt and heavy_deg.pt, the same tensors as safetensors"


@pytest.fixture(scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_small(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def folder(tmp_path: Path, _installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A weights folder with autoencoder and text encoder; the product knows two models with one network."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("small-vae", "small-clip"):
        shutil.copy(_installed / f"{name}.safetensors", folder)
    monkeypatch.setenv("STARVSR_WEIGHTS", str(folder))
    with two_models():
        yield folder


def upscaled(cli: Cli, clip: Path, name: str, model: str | Path) -> tuple[bytes, str]:
    """The frames of a short run, and what was said."""
    output = clip.with_name(name)
    ran = cli(
        "upscale",
        clip,
        output,
        "--model",
        model,
        "--scale",
        "1",
        "--steps",
        "1",
        "--frames",
        "2",
        "--offline",
    )
    assert ran.code == 0, ran.err
    with av.open(output) as file:
        return b"".join(frame.to_ndarray().tobytes() for frame in file.decode(video=0)), ran.err


@pytest.mark.parametrize("layout", ["state_dict", "bare", "module.", "state_dict module."])
def test_a_pickle_is_converted_once(
    cli: Cli, clip: Path, folder: Path, tmp_path: Path, layout: str
) -> None:
    path = write_star(tmp_path / "light_deg.pt", layout)
    before, original = listing(folder), path.read_bytes()
    planned = cli("plan", clip, "--model", path)
    assert planned.code == 0, planned.err
    once = f"{path} ("
    assert f"convert   {once}" in planned.out
    assert f"is converted once into {folder / 'converted'}, and is left as it is" in planned.out
    assert f"{path}, as requested: the network of small-light" in planned.out
    assert listing(folder) == before
    if layout != "state_dict":
        return
    first, said = upscaled(cli, clip, "first.mkv", path)
    assert f"warning: {once}" in said
    (made,) = (folder / "converted").iterdir()
    assert made.name.startswith("small-light-")
    stamp = made.stat().st_mtime_ns
    second, said = upscaled(cli, clip, "second.mkv", path)
    assert "is converted once" not in said
    assert f"converted to {made}" in said
    assert (second, made.stat().st_mtime_ns) == (first, stamp)
    assert path.read_bytes() == original
    assert f"{made}, converted from a file" in cli("info").out
    moved = path.rename(tmp_path / "light.pt")
    assert "convert   " not in cli("plan", clip, "--model", moved).out


@pytest.mark.parametrize("layout", ["fp32", "fp16", "bf16"])
def test_safetensors_of_the_published_names_are_used_in_place(
    cli: Cli, clip: Path, folder: Path, tmp_path: Path, layout: str
) -> None:
    path = write_star(tmp_path / "star_heavy.safetensors", layout)
    before = path.read_bytes()
    _, said = upscaled(cli, clip, "out.mkv", path)
    assert f"model {path}, as requested: the network of small-heavy, on" in said
    assert not (folder / "converted").exists()
    assert path.read_bytes() == before


def test_every_layout_gives_the_same_video(
    cli: Cli, clip: Path, folder: Path, tmp_path: Path
) -> None:
    results = {
        upscaled(cli, clip, f"{number}.mkv", write_star(tmp_path / name, layout))[0]
        for number, (name, layout) in enumerate(
            (("light.pt", "bare"), ("light.safetensors", "fp32"))
        )
    }
    assert len(results) == 1


def test_our_own_file(cli: Cli, clip: Path, folder: Path, _installed: Path, tmp_path: Path) -> None:
    path = shutil.copy(_installed / "small-star.safetensors", tmp_path / "any.name")
    assert cli("plan", clip, "--model", path).code == 0
    wrong = cli("plan", clip, "--model", f"small-heavy={path}")
    assert wrong.code == 4
    assert "the file says that it is small-star: give the path alone" in wrong.error


def test_a_file_of_two_models(cli: Cli, clip: Path, folder: Path, tmp_path: Path) -> None:
    path = write_star(tmp_path / "model.pt")
    asked = cli("plan", clip, "--model", path)
    assert asked.code == 2
    assert asked.error == (
        f"--model {path} has the network of small-light or small-heavy, which have the same shapes, and its name does "
        f"not say whose: give --model small-light={path} or --model small-heavy={path}"
    )
    told = cli("plan", clip, "--model", f"small-heavy={path}")
    assert told.code == 0
    assert "the network of small-heavy" in told.out


def test_a_published_hash_tells_whose(cli: Cli, clip: Path, folder: Path, tmp_path: Path) -> None:
    from starvsr.zoo.hashes import file_sha256

    path = write_star(tmp_path / "model.pt")
    with two_models({"small-heavy": file_sha256(path)}):
        assert "the network of small-heavy" in cli("plan", clip, "--model", path).out
        misnamed = path.rename(tmp_path / "light_deg.pt")
        output = clip.with_name("out.mkv")
        wrong = cli("upscale", clip, output, "--model", misnamed, "--offline")
        assert wrong.code == 4
        assert (
            "is the published file of small-heavy by its hash, and not of small-light"
            in wrong.error
        )
        assert not output.exists()


def test_star_on_cogvideox(
    cli: Cli, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model_states.pt"
    torch.save(sat_checkpoint(), path)
    folder = install_small_cogvideox(tmp_path / "weights")
    (folder / "small-cogvideox.safetensors").unlink()
    monkeypatch.setenv("STARVSR_WEIGHTS", str(folder))
    with small_cogvideox():
        shown = cli("plan", clip, "--model", path)
        assert shown.code == 0, shown.err
        assert "the network of small-cogvideox" in shown.out
        assert f"convert   {path}" in shown.out
        upscaled(cli, clip, "out.mkv", path)
    assert len(list((folder / "converted").iterdir())) == 1


def lora(path: Path) -> Path:
    return write_tensors_named(path, "unet.attn.to_q.lora_A.weight", "unet.attn.to_q.lora_B.weight")


def stable_diffusion(path: Path) -> Path:
    names = ("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.logit_scale")
    return write_tensors_named(
        path, *names, wrapper="" if path.suffix == ".safetensors" else "state_dict"
    )


def esrgan(path: Path) -> Path:
    return write_tensors_named(
        path, "conv_first.weight", "body.0.rdb1.conv1.weight", wrapper="params_ema"
    )


def hostile(path: Path) -> Path:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (os.system, (f"touch {path.with_name('run')}",))

    torch.save({"state_dict": Attack()}, path)
    return path


def with_callbacks(path: Path) -> Path:
    """As trainers write them, beside the tensors."""
    names = ("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.x")
    state = {name: torch.ones(2) for name in names}
    torch.save({"callbacks": {"checkpoint": datetime.date(2024, 1, 1)}, "state_dict": state}, path)
    return path


def eight_bits(path: Path) -> Path:
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in star().items()}, path)
    return path


def with_text(text: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(text)
        return path

    return write


def archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("read.me", "text")
    return path


def script(path: Path) -> Path:
    with pytest.deprecated_call():
        torch.jit.save(torch.jit.script(torch.nn.Identity()), path)
    return path


def module(path: Path) -> Path:
    torch.save(torch.nn.Linear(2, 2), path)
    return path


def without_tensors(path: Path) -> Path:
    torch.save({}, path)
    return path


def prefixed(path: Path) -> Path:
    return write_tensors_named(
        path, "unet.VideoControlNet.input_blocks.0.0.weight", "unet.input_blocks.0.0.weight"
    )


def changed(path: Path) -> Path:
    state = star()
    del state["out.2.bias"]
    state["ema"] = torch.zeros(1)
    state["out.2.weight"] = torch.zeros(3)
    torch.save(state, path)
    return path


FOREIGN = [
    ("light_deg.pt", lambda path: cut(write_star(path)), "is corrupt (truncated: "),
    ("light.safetensors", lambda path: cut(write_star(path, "fp32")), "(it is truncated: "),
    ("sd15.ckpt", stable_diffusion, f"is a UNet of Stable Diffusion; {TAKEN}"),
    ("sd15.safetensors", stable_diffusion, f"is a UNet of Stable Diffusion; {TAKEN}"),
    (
        "style.safetensors",
        lora,
        f"is a LoRA, which changes another model and is not one itself; {TAKEN}",
    ),
    (
        "sd15.ckpt",
        with_callbacks,
        "it requires datetime.date); nothing in it was run; by its names it is a UNet of Stable Diffusion; ",
    ),
    ("RealESRGAN_x4.pth", esrgan, f"is an ESRGAN network for images; {TAKEN}"),
    (
        "light_deg.pt",
        hostile,
        "is refused, since it needs more than tensors to be read (it requires",
    ),
    ("light_fp8.safetensors", eight_bits, "network, in fp8: "),
    ("light_deg.pt", with_text(b"<!DOCTYPE html><html>"), "(it is a web page and not the file"),
    (
        "light_deg.pt",
        with_text(b"version https://git-lfs.github.com/spec/v1"),
        "a pointer of Git LFS",
    ),
    ("light_deg.pt", with_text(b""), "(it is empty)"),
    ("light.onnx", with_text(b"\x08\x07\x12\x07pytorch" + bytes(99)), f"is an ONNX model; {TAKEN}"),
    ("light.pt", with_text(b'{"message": "Not Found"}'), f"is JSON and not a model; {TAKEN}"),
    (
        "light.bin",
        with_text(b"abc" * 99),
        f"neither a checkpoint of torch.save nor a safetensors file; {TAKEN}",
    ),
    ("light.zip", archive, f"is an archive and not a checkpoint; {TAKEN}"),
    ("light.pt", script, f"is a TorchScript program and not a checkpoint; {TAKEN}"),
    (
        "light.pt",
        module,
        f"it requires torch.nn.modules.linear.Linear); nothing in it was run; {TAKEN}",
    ),
    ("light.pt", without_tensors, f"has no tensors; {TAKEN}"),
    (
        "light.safetensors",
        prefixed,
        f"is a network with the layout of STAR's, with something before each name; {TAKEN}",
    ),
    ("light.gguf", with_text(b"GGUF\3\0\0\0"), "a GGUF file, whose numbers are quantized"),
    (
        "light_deg.pt",
        changed,
        "the nearest is small-light and small-heavy, of whose tensors 1 missing, 1 unexpected, 1 of another shape: ema "
        "is unexpected; out.2.bias is missing; out.2.weight is (3,) instead of",
    ),
]


@pytest.mark.parametrize(("name", "write", "words"), FOREIGN)
@pytest.mark.parametrize("way", ["model", "source"])
def test_what_cannot_be_used_is_named(
    cli: Cli,
    clip: Path,
    folder: Path,
    tmp_path: Path,
    name: str,
    write: Callable[[Path], Path],
    words: str,
    way: str,
) -> None:
    path = write(tmp_path / name)
    before = listing(folder)
    if way == "model":
        result = cli("plan", clip, "--model", path)
    else:
        result = cli("download-weights", "small-light", "--source", path, "--offline", "--dry-run")
    assert result.code == 4
    assert result.error.startswith(f"{path} ")
    assert words in result.error
    assert listing(folder) == before
    assert not path.with_name("run").exists()


@pytest.mark.parametrize("way", ["model", "source"])
def test_a_damaged_pickle_is_found_by_its_own_checksums(
    cli: Cli, clip: Path, folder: Path, tmp_path: Path, way: str
) -> None:
    path = write_star(tmp_path / "light_deg.pt")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if way == "model":
        result = cli("upscale", clip, clip.with_name("out.mkv"), "--model", path, "--offline")
    else:
        result = cli("download-weights", "small-light", "--source", path, "--offline")
    assert result.code == 4
    assert f"{path} is damaged: its content differs from its own checksums" in result.error
    assert not list(folder.rglob("*light*.safetensors"))


def test_a_part_of_a_model_is_no_model(cli: Cli, clip: Path, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "open_clip_model.safetensors"
    save_file(open_clip_state(), path)
    result = cli("plan", clip, "--model", path)
    assert result.code == 4
    assert result.error == (
        f"{path} is CLIP under the names of open_clip; it is a part of models, not one: give it to `starvsr "
        "download-weights MODEL --source`"
    )


ALL = ("small-light", "small-vae", "small-clip")
CLIP = "small/CLIP"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_published(folder)
    return folder


@pytest.fixture
def hub(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that has everything of the light model, and an empty weights folder."""
    monkeypatch.setenv("STARVSR_WEIGHTS", str(tmp_path / "weights"))
    with two_models(), hub_server(published) as server:
        use_hub(monkeypatch, server.url, tmp_path / "home")
        yield server


def bodies(hub: HubServer) -> list[str]:
    return sorted({asked.path for asked in hub.asked if asked.method == "GET"})


def cache(home: Path, repository: str, path: str, data: bytes, commit: str = COMMIT) -> Path:
    """Put a file where Hugging Face's cache keeps it: under the hub's hash, with a link in a version's folder."""
    import hashlib

    place = home / "hub" / f"models--{repository.replace('/', '--')}"
    is_large = path.endswith((".pt", ".bin", ".safetensors"))
    digest = hashlib.sha256(data) if is_large else hashlib.sha1(b"blob %d\0" % len(data) + data)
    blob = place / "blobs" / digest.hexdigest()
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    link = place / "snapshots" / commit / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(blob)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(commit)
    return link


SMALL_FILES = ["config.json", "merges.txt", "vae/config.json", "vocab.json"]


@pytest.mark.parametrize("layout", ["state_dict", "bare", "fp16"])
def test_the_rest_of_a_source_is_fetched(
    cli: Cli, hub: HubServer, tmp_path: Path, layout: str
) -> None:
    name = "mine.safetensors" if layout == "fp16" else "mine.pt"
    path = write_star(tmp_path / name, layout)
    result = cli("download-weights", "small-light", "--source", path)
    assert result.code == 0, result.err
    assert f"from {path}" in result.err
    assert "I2VGen-XL-based/light_deg.pt" not in bodies(hub)
    assert "model.safetensors" in bodies(hub)
    weights = tmp_path / "weights"
    assert sorted(each.stem for each in weights.glob("*.safetensors")) == sorted(ALL)
    assert path.exists()
    made = load_file(weights / "small-light.safetensors")
    assert {tensor.dtype for tensor in made.values()} == {
        torch.half if layout == "fp16" else torch.float
    }


def test_a_folder_with_some_of_the_files(
    cli: Cli, hub: HubServer, tmp_path: Path, published: Path
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    write_star(mine / "star-light-v1.pt")
    shutil.copytree(published / "small/video-diffusion", other / "small/video-diffusion")
    lacking = cli(
        "download-weights", "small-light", "--source", mine, "--source", other, "--offline"
    )
    assert lacking.code == 4
    assert lacking.error == "downloads are off (--offline, or `download` of the node)"
    assert (
        "missing are small/CLIP/model.safetensors, small/CLIP/config.json, small/CLIP/vocab.json, "
        "small/CLIP/merges.txt: not where other programs keep them" in lacking.err
    )
    assert hub.asked == []
    result = cli("download-weights", "small-light", "--source", mine, "--source", other)
    assert result.code == 0, result.err
    assert bodies(hub) == ["config.json", "merges.txt", "model.safetensors", "vocab.json"]


def test_files_that_starvsr_wrote_are_copied(
    cli: Cli, hub: HubServer, tmp_path: Path, published: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert cli("download-weights", "small-light", "--dir", first, "--source", published).code == 0
    whole = cli("download-weights", "small-light", "--dir", second, "--source", first, "--offline")
    assert whole.code == 0, whole.err
    assert "warning" not in whole.err
    for name in ALL:
        copy, wanted = (load_file(place / f"{name}.safetensors") for place in (second, first))
        assert copy.keys() == wanted.keys()
        assert all(torch.equal(copy[key], wanted[key]) for key in wanted)
    assert cli("download-weights", "--verify", "--dir", second).code == 0
    network, vae = (first / f"small-{part}.safetensors" for part in ("light", "vae"))
    renamed = network.rename(tmp_path / "any.safetensors")
    files = ("--source", renamed, "--source", vae)
    third = cli(
        "download-weights", "small-light", "--dir", tmp_path / "third", *files, "--dtype", "fp16"
    )
    assert third.code == 0, third.err
    assert bodies(hub) == ["config.json", "merges.txt", "model.safetensors", "vocab.json"]
    unasked = cli("download-weights", "small-clip", "--source", renamed, "--dry-run")
    assert "has none of the files that are needed" in unasked.err


def test_a_single_file_of_two_names(cli: Cli, hub: HubServer, published: Path) -> None:
    path = published / CLIP / "config.json"
    asked = cli("download-weights", "small-light", "--source", path, "--dry-run")
    assert asked.code == 2
    assert asked.error == (
        f"--source {path} may be small/video-diffusion/vae/config.json or small/CLIP/config.json: give a folder in "
        "which it has one of these paths"
    )
    shown = cli("download-weights", "small-clip", "--source", path, "--dry-run")
    assert f"from {path}" in shown.out


def test_a_source_that_is_another_models(cli: Cli, hub: HubServer, tmp_path: Path) -> None:
    path = write_star(tmp_path / "heavy_deg.pt")
    shown = cli("download-weights", "small-light", "--source", path, "--dry-run")
    assert shown.code == 0
    assert f"--source {path} has none of the files that are needed" in shown.err
    unnamed = path.rename(tmp_path / "model.pt")
    both = ("small-light", "small-heavy")
    asked = cli("download-weights", *both, "--source", unnamed, "--dry-run")
    assert asked.code == 2
    assert "name one of them as MODEL" in asked.error


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
@pytest.mark.parametrize("way", ["hub", "unknown to the hub", "offline"])
def test_what_open_clip_fetched_is_used(
    cli: Cli, hub: HubServer, tmp_path: Path, published: Path, name: str, way: str
) -> None:
    path = tmp_path / name
    if name.endswith(".bin"):
        torch.save(open_clip_state(), path)
    else:
        save_file(open_clip_state(), path)
    if way == "hub":
        hub.files[CLIP, name] = path.read_bytes()
    copy = cache(tmp_path / "home", CLIP, name, path.read_bytes())
    offline = []
    if way == "offline":
        for small in ("config.json", "vocab.json", "merges.txt"):
            cache(tmp_path / "home", CLIP, small, (published / CLIP / small).read_bytes())
        offline = ["--offline"]
    result = cli("download-weights", "small-clip", *offline)
    assert result.code == 0, result.err
    assert f"from {copy}" in result.err
    fetched = [] if offline else ["config.json", "merges.txt", "vocab.json"]
    assert bodies(hub) == fetched
    made = load_file(tmp_path / "weights" / "small-clip.safetensors")
    from_published = tmp_path / "other"
    again = cli("download-weights", "small-clip", "--dir", from_published, "--source", published)
    assert again.code == 0
    wanted = load_file(from_published / "small-clip.safetensors")
    assert made.keys() == wanted.keys()
    assert all(torch.equal(made[name], wanted[name]) for name in wanted)


def test_a_damaged_copy_of_open_clips_is_fetched_instead(
    cli: Cli, hub: HubServer, tmp_path: Path
) -> None:
    path = tmp_path / "open_clip_model.safetensors"
    save_file(open_clip_state(), path)
    copy = cache(tmp_path / "home", CLIP, path.name, path.read_bytes())
    blob = copy.resolve()
    blob.write_bytes(blob.read_bytes()[:-4] + b"oops")
    result = cli("download-weights", "small-clip")
    assert result.code == 0, result.err
    assert "it is fetched instead" in result.err
    assert "model.safetensors" in bodies(hub)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_in_the_cache_is_found_without_the_hub(
    cli: Cli, hub: HubServer, tmp_path: Path, published: Path, name: str
) -> None:
    for each in ("model.safetensors", "config.json", "vocab.json", "merges.txt"):
        cache(tmp_path / "home", CLIP, each, (published / CLIP / each).read_bytes())
    blob = (tmp_path / "home/hub/models--small--CLIP/snapshots" / COMMIT / name).resolve()
    whole = blob.read_bytes()
    blob.write_bytes(whole.replace(b"2", b"3", 1) if name == "config.json" else whole[:-1] + b"!")
    result = cli("download-weights", "small-clip", "--offline")
    assert result.code == 4
    assert f"small/CLIP/{name} has the wrong hash: the cache states {blob.name}" in result.error
    blob.write_bytes(whole)
    assert cli("download-weights", "small-clip", "--offline").code == 0
    assert hub.asked == []


def test_the_cache_is_used_whatever_the_hubs_newest_commit(
    cli: Cli, hub: HubServer, tmp_path: Path, published: Path
) -> None:
    for component in ("small/video-diffusion", CLIP, "small/STAR"):
        for path in (published / component).rglob("*.*"):
            if path.is_file():
                inside = str(path.relative_to(published / component))
                cache(tmp_path / "home", component, inside, path.read_bytes(), commit="0" * 40)
    hub.gated["small/video-diffusion"] = 401
    result = cli("download-weights", "small-light")
    assert result.code == 0, result.err
    assert bodies(hub) == []


@pytest.mark.parametrize("case", ["STAR", "star"])
def test_comfyui_files_are_used_if_their_hash_is_right(
    cli: Cli, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    comfyui = tmp_path / "ComfyUI"
    models = comfyui / "models" / case
    models.mkdir(parents=True)
    copy = models / "light_deg.pt"
    copy.write_bytes(hub.files["small/STAR", "I2VGen-XL-based/light_deg.pt"])
    other = write_star(models / "star_heavy_fp16.safetensors", "fp16")
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui))
    found = cli("info").out
    assert f"small-light: {copy} (" in found
    assert f"{other} (" in found
    assert "give it by --model or --source" in found
    result = cli("download-weights", "small-light")
    assert result.code == 0, result.err
    assert bodies(hub) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        *SMALL_FILES[2:3],
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "vocab.json",
    ]
    copy.write_bytes(b"x" * copy.stat().st_size)
    again = cli("download-weights", "small-light", "--dir", tmp_path / "again")
    assert again.code == 0, again.err
    assert "I2VGen-XL-based/light_deg.pt" in bodies(hub)
