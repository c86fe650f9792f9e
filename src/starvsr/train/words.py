"""Text contexts of many clips: the encoder is loaded once, and frequent contexts are cached."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from starvsr.errors import WeightsError
from starvsr.models.t5 import T5Encoder
from starvsr.models.text import TextEncoder
from starvsr.types import TextSpec
from starvsr.zoo.folder import find_component
from starvsr.zoo.load import LoadedModel
from starvsr.zoo.text import load_encoder

_MOST_KEPT = 256


class Contexts:
    """Contexts for a model: of a clip's prompt as it is, otherwise of the default prompt."""

    def __init__(self, model: LoadedModel, folders: Sequence[Path]) -> None:
        """folders: where the text encoder is looked for."""
        self.model, self.folders = model, tuple(folders)
        self.kept: OrderedDict[str, Tensor] = OrderedDict()
        self.encoder: TextEncoder | T5Encoder | None = None

    def __call__(self, texts: Sequence[str | None]) -> Tensor:
        """Texts (None: the model's default; empty: no words) as `b n c` on the model's device, float32.

        Raises WeightsError where a text needs the encoder and it is missing.
        """
        if self.model.spec.text is None:
            return self.model.context.float()
        return torch.cat([self._one(text, self.model.spec.text) for text in texts])

    def _one(self, text: str | None, spec: TextSpec) -> Tensor:
        if text is None:
            return self.model.context.float()
        if text not in self.kept:
            with torch.no_grad():
                encoder = self.encoder = self.encoder or self._load(spec)
                context = encoder(text, self.model.spec.context_tokens)
            self.kept[text] = context.to(self.model.device)
        self.kept.move_to_end(text)
        if len(self.kept) > _MOST_KEPT:
            self.kept.popitem(last=False)
        return self.kept[text]

    def _load(self, spec: TextSpec) -> TextEncoder | T5Encoder:
        path = find_component(spec.weights, self.folders)
        if path is None:
            raise WeightsError(
                f"the text encoder {spec.weights} is not in {self.folders[-1]}, and clips have prompts: download it "
                "with starvsr download-weights"
            )
        return load_encoder(path)
