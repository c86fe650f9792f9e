"""T5's text encoder: prompt in, the text tokens of STAR's CogVideoX network out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from starvsr.models.library import loaded_module

logger = logging.getLogger(__name__)

END, PADDING = 1, 0
"""Ids of the end and padding tokens. Padding is not masked, so it must be what the network was trained with."""


class PieceTokenizer:
    """T5's word pieces, by sentencepiece."""

    def __init__(self, model: bytes) -> None:
        """model: the content of `spiece.model`. Raises ValueError if it is not T5's."""
        from sentencepiece import SentencePieceProcessor

        try:
            self._pieces = SentencePieceProcessor(model_proto=model)
            special = self._pieces.pad_id(), self._pieces.eos_id()
        except RuntimeError as error:
            raise ValueError(f"the word pieces cannot be read: {error}") from error
        if special != (PADDING, END):
            raise ValueError("the padding and end tokens of the word pieces are not T5's")

    @property
    def size(self) -> int:
        """Number of pieces."""
        return int(self._pieces.get_piece_size())

    def __call__(self, text: str, length: int) -> list[int]:
        """`length` ids: the text's pieces, end, padding. A long text is truncated before the end token."""
        inside: list[int] = self._pieces.encode(text)
        if len(inside) > length - 1:
            logger.warning(
                "the prompt has %d tokens, and the last %d are ignored: shorten it",
                len(inside),
                len(inside) - (length - 1),
            )
        ids = [*inside[: length - 1], END]
        return ids + [PADDING] * (length - len(ids))


@dataclass(frozen=True)
class T5Encoder:
    """The encoder of T5 v1.1 (Raffel et al., 2020; Shazeer, 2020); no token is masked, padding neither."""

    module: nn.Module
    """transformers' `T5EncoderModel`, in evaluation mode."""
    tokenizer: PieceTokenizer

    @classmethod
    def from_state(
        cls, config: Mapping[str, Any], state: Mapping[str, Tensor], pieces: bytes
    ) -> T5Encoder:
        """From transformers' configuration and parameters, taken as they are, mapped from a file if they were.

        Works in their type; in half precision, bfloat16 alone is wide enough for it. pieces: as in `PieceTokenizer`.
        Raises ValueError if these do not fit together.
        """
        tokenizer = PieceTokenizer(pieces)
        # One table under two names.
        table = state.get("shared.weight")
        tied = {} if table is None else {"encoder.embed_tokens.weight": table}
        module = loaded_module("text encoder", lambda: build_t5(config), {**tied, **state})
        if tokenizer.size > module.config.vocab_size:
            raise ValueError(
                f"the encoder has {module.config.vocab_size} tokens, and there are {tokenizer.size} pieces"
            )
        return cls(module, tokenizer)

    def __call__(self, text: str, length: int) -> Tensor:
        """The context of a text, `1 length c`, float32."""
        ids = torch.tensor([self.tokenizer(text, length)])
        with torch.inference_mode():
            hidden: Tensor = self.module(input_ids=ids).last_hidden_state
        return hidden.float().clone()


def build_t5(config: Mapping[str, Any]) -> Any:
    """transformers' `T5EncoderModel` of a configuration."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(**config))
