"""The node that says which model restores, and how it runs; what it gives keeps the loaded model for later runs."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import starvsr
from starvsr.options import Offload, Precision
from starvsr.specs import SPECS
from starvsr.zoo.ondisk import COMFYUI, MODEL_FILES

from .running import Bar, make_room
from .widgets import CATEGORY, MODEL, number

if TYPE_CHECKING:
    from starvsr.zoo.planning import InstallPlan

NO_FILE = "none"
_FOLDERS = ("STAR", "star")
"""Below ComfyUI's models folder; where other packs for STAR keep its files."""

logger = logging.getLogger(__name__)


@dataclass
class Model:
    """A model as it was chosen, and what was loaded of it for the last run."""

    name: str = "auto"
    """As `UpscaleOptions.model`."""
    device: starvsr.DeviceOptions = field(default_factory=starvsr.DeviceOptions)
    prompts: tuple[str | None, str | None] = (None, None)
    """What the video shows and what not; None is the model's own."""
    weights: starvsr.WeightsOptions = field(
        default_factory=lambda: starvsr.WeightsOptions(offline=True)
    )
    download: bool = False
    """Whether missing weights are fetched before the first run."""
    detail: float | None = None
    """As `LookOptions.detail`: the weights are made for it."""
    _restorer: starvsr.Restorer | None = None
    _jobs: starvsr.LastModel | None = None

    def restorer(self, bar: Bar) -> starvsr.Restorer:
        """What restores frames, loaded once. Raises StarvsrError."""
        make_room()
        if self._restorer is None:
            self._let_go()
            self.fetch(bar)
            self._restorer = starvsr.Restorer.from_name(
                self.name,
                device=self.device,
                sampling=self.with_prompts(starvsr.SamplingOptions()),
                look=starvsr.LookOptions(detail=self.detail),
                weights=self.weights,
            )
        return self._restorer

    def jobs(self, bar: Bar) -> starvsr.LastModel:
        """What loads the model for jobs on files, as each is planned, and keeps it. Raises StarvsrError."""
        make_room()
        if self._jobs is None:
            self._let_go()
            self.fetch(bar)
            self._jobs = starvsr.LastModel()
        return self._jobs

    def with_prompts(self, sampling: starvsr.SamplingOptions) -> starvsr.SamplingOptions:
        """Options with this model's prompts."""
        prompt, negative_prompt = self.prompts
        return dataclasses.replace(sampling, prompt=prompt, negative_prompt=negative_prompt)

    def fetch(self, bar: Bar) -> None:
        """Download what is missing, if that is wanted. Raises StarvsrError."""
        if not self.download:
            return
        from starvsr.models.device import device_info
        from starvsr.zoo.choose import choose_model
        from starvsr.zoo.folder import weights_folder
        from starvsr.zoo.install import ensure

        choice = choose_model(self.name, device_info(self.device.device), self.weights)
        if choice.missing:
            folder = weights_folder(self.weights.folder)
            ensure(choice.spec, folder, choice.missing, progress=bar.of_job, announce=_announce)

    def _let_go(self) -> None:
        """One of both ways holds the weights: there may be no room for two."""
        self._restorer = self._jobs = None
        gc.collect()


def _announce(plan: InstallPlan) -> None:
    from starvsr.zoo.amounts import format_bytes

    named = [f"{component.name} ({component.licence})" for component in plan.wanted]
    amount = format_bytes(plan.download_bytes)
    logger.info("downloading %s to %s: %s", amount, plan.folder, ", ".join(named))


DEFAULT = Model()
"""For nodes that no loader is connected to."""


class LoadModel:
    """Chooses a model by name or file; it is loaded when it is first used, and kept."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Chooses the model that restores. It is loaded when it is first used, and kept."
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    FUNCTION = "choose"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": (
                    ["auto", *SPECS],
                    {
                        "default": "auto",
                        "tooltip": "As --model. auto: star-light if there is a GPU and its weights are installed, else "
                        "nano. With a file: whose network it has; auto tells that by itself where it can.",
                    },
                ),
                "file": (
                    [NO_FILE, *model_files()],
                    {
                        "default": NO_FILE,
                        "tooltip": "A network in models/STAR or models/star: STAR's .pt, or safetensors.",
                    },
                ),
                "device": (_devices(), {"default": "auto", "tooltip": "As --device."}),
                "precision": (
                    list(get_args(Precision)),
                    {"default": "auto", "tooltip": "Of the network, as --precision."},
                ),
                "offload": (
                    list(get_args(Offload)),
                    {
                        "default": "auto",
                        "tooltip": "What waits in main memory until it is used, as --offload. auto: as little as "
                        "possible for videos, nothing for images.",
                    },
                ),
            },
            "optional": {
                "prompt": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "What the video shows; empty: the model's own.",
                    },
                ),
                "negative_prompt": (
                    "STRING",
                    {"default": "", "multiline": True, "tooltip": "Empty: the model's own."},
                ),
                "memory_limit_gb": number(
                    "FLOAT", 0, 0, 1024, "Most device memory to use; 0: what is free.", step=0.5
                ),
                "weights_dir": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Folder that starvsr download-weights filled; empty: its default.",
                    },
                ),
                "download": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Download missing weights first: 12 GB for star-light.",
                    },
                ),
                # Workflows have values by place: what is new comes last.
                "detail": number(
                    "FLOAT",
                    1,
                    0,
                    1,
                    "From the most faithful (0) to the most detailed (1), as --detail; only of models that have both.",
                    step=0.05,
                ),
            },
        }

    def choose(
        self,
        model: str,
        file: str,
        device: str,
        precision: Any,
        offload: Any,
        prompt: str = "",
        negative_prompt: str = "",
        memory_limit_gb: float = 0,
        weights_dir: str = "",
        download: bool = False,
        detail: float = 1,
    ) -> tuple[Model]:
        """See `INPUT_TYPES`. Raises StarvsrError."""
        name = model
        if file != NO_FILE:
            name = path_of(file) if model == "auto" else f"{model}={path_of(file)}"
        chosen = Model(
            name,
            starvsr.DeviceOptions(
                device=device,
                precision=precision,
                offload=offload,
                memory_limit_bytes=round(memory_limit_gb * (1 << 30)) or None,
            ),
            (prompt.strip() or None, negative_prompt.strip() or None),
            weights=starvsr.WeightsOptions(
                folder=Path(weights_dir.strip()) if weights_dir.strip() else None, offline=True
            ),
            download=download,
            # Given, it would be refused for models without it.
            detail=None if detail == 1 else detail,
        )
        return (chosen,)


def model_files() -> list[str]:
    """Names of network files in ComfyUI's folders for STAR, relative to them."""
    import folder_paths

    _register()
    names: list[str] = folder_paths.get_filename_list(_FOLDERS[0])
    return [name for name in names if name.endswith(MODEL_FILES)]


def path_of(file: str) -> str:
    """The path of one of `model_files`. Raises FileNotFoundError."""
    import folder_paths

    _register()
    path: str = folder_paths.get_full_path_or_raise(_FOLDERS[0], file)
    return path


def _register() -> None:
    """Add the folders of other packs for STAR to ComfyUI's, so that extra_model_paths.yaml may add more."""
    import folder_paths

    for name in _FOLDERS:
        folder_paths.add_model_folder_path(_FOLDERS[0], str(Path(folder_paths.models_dir) / name))
    # Where published files are looked for before they are downloaded.
    os.environ.setdefault(COMFYUI, str(Path(folder_paths.models_dir).parent))


def _devices() -> list[str]:
    import torch

    found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["auto", "cpu", *found, *(["mps"] if torch.backends.mps.is_available() else [])]
