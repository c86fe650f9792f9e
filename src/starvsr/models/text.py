"""CLIP's text encoder: prompt in, the context of the network's cross-attention out."""

from __future__ import annotations

import html
import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from starvsr.media.strict_json import first_words, parse_json, shown
from starvsr.models.library import loaded_module

logger = logging.getLogger(__name__)

START, END = "<|startoftext|>", "<|endoftext|>"
_MOST_CHARACTERS = 1 << 24
PADDING = 0
"""Padding token. It is not masked, so it must be the one used in training: OpenCLIP's 0, not the end token."""

_PIECE = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_STRAIGHT_QUOTES = str.maketrans(dict.fromkeys("ʼ‘’‚‛", "'") | dict.fromkeys("“”„‟", '"'))


class ClipTokenizer:
    """CLIP's byte pairs, with OpenCLIP's start, end and padding."""

    def __init__(self, vocabulary: str, merges: str) -> None:
        """vocabulary: the text of `vocab.json`; merges: of `merges.txt`.

        Raises ValueError if they are not CLIP's.
        """
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers

        numbers = read_vocabulary(vocabulary)
        try:
            model = models.BPE(
                vocab=numbers, merges=_read_merges(merges), end_of_word_suffix="</w>"
            )
        except Exception as error:  # the library raises nothing more precise
            raise ValueError(
                f"the merges do not fit the vocabulary: {first_words(error)}"
            ) from error
        self._pairs = Tokenizer(model)
        self._pairs.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECE), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._start, self._end = numbers[START], numbers[END]

    def __call__(self, text: str, length: int) -> list[int]:
        """`length` ids: start, the text's tokens, end, padding. A long text is truncated before the end token."""
        inside = self._pairs.encode(clean(text), add_special_tokens=False).ids
        if len(inside) > length - 2:
            logger.warning(
                "the prompt has %d tokens with the model's quality words, and the last %d are ignored: "
                "shorten it",
                len(inside),
                len(inside) - (length - 2),
            )
        ids = [self._start, *inside[: length - 2], self._end]
        return ids + [PADDING] * (length - len(ids))


@dataclass(frozen=True)
class TextEncoder:
    """The text tower of CLIP (Radford et al., 2021) up to the layer that the network was trained on.

    STAR reads the published tower before its last layer, through the final norm. So that layer is left out of the
    configuration and of the parameters, and what remains gives it as its last hidden state.
    """

    module: nn.Module
    """transformers' `CLIPTextModel`, in evaluation mode."""
    tokenizer: ClipTokenizer

    @classmethod
    def from_state(
        cls, config: Mapping[str, Any], state: Mapping[str, Tensor], vocabulary: str, merges: str
    ) -> TextEncoder:
        """From transformers' text configuration and the parameters `text_model.*`, without their last layer.

        Works in float32; float32 parameters are taken as they are, mapped from a file if they were. vocabulary,
        merges: as in `ClipTokenizer`. Raises ValueError if these do not fit together.
        """
        from transformers import CLIPTextConfig, CLIPTextModel

        tokenizer = ClipTokenizer(vocabulary, merges)
        own = {name.removeprefix("text_model."): value.float() for name, value in state.items()}
        # transformers 4 has the layers in `text_model`, 5 in the model itself.
        module = loaded_module(
            "text encoder", lambda: CLIPTextModel(CLIPTextConfig(**config)), own, inner="text_model"
        )
        return cls(module, tokenizer)

    def __call__(self, text: str, length: int = 77) -> Tensor:
        """The context of a text, `1 length c`, float32.

        Raises ValueError for more tokens than the encoder has positions.
        """
        config: Any = self.module.config
        if length > config.max_position_embeddings:
            raise ValueError(
                f"the text encoder has {config.max_position_embeddings} positions, the network reads {length} tokens"
            )
        ids = torch.tensor([self.tokenizer(text, length)])
        # Built on the meta device, the module's own position ids were never written.
        places = rearrange(torch.arange(length), "n -> 1 n")
        with torch.inference_mode():
            hidden: Tensor = self.module(input_ids=ids, position_ids=places).last_hidden_state
        return hidden.clone()


def clean(text: str) -> str:
    """Text as CLIP was trained to see it: HTML entities resolved, quotes straight, white space single, lower case.

    OpenCLIP also repairs wrongly decoded text, ligatures and full-width letters; such text stays as it is here.
    """
    text = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return " ".join(text.translate(_STRAIGHT_QUOTES).split()).lower()


def read_vocabulary(text: str) -> dict[str, int]:
    """The id of each token of a `vocab.json`. Raises ValueError if it is not CLIP's."""
    try:
        numbers = parse_json(text, _MOST_CHARACTERS)
    except ValueError as error:
        raise ValueError(f"the vocabulary is not JSON: {error}") from error
    if not isinstance(numbers, dict) or not all(
        type(n) is int and 0 <= n < _MOST_CHARACTERS for n in numbers.values()
    ):
        raise ValueError("the vocabulary does not map words to numbers")
    letters = byte_letters()
    needed = [START, END, *letters, *(f"{letter}</w>" for letter in letters)]
    missing = [word for word in needed if word not in numbers]
    if missing:
        # A letter without an id would be dropped silently.
        raise ValueError(f"the vocabulary lacks {len(missing)} entries, among them {missing[0]!r}")
    return numbers


def _read_merges(text: str) -> list[tuple[str, str]]:
    # Not splitlines: letters stand for bytes here, and some count as line ends there.
    lines = text.split("\n")
    if lines[0].startswith("#version"):
        del lines[0]
    merges = []
    for line in lines:
        if line.strip():
            first, _, second = line.strip().partition(" ")
            if not second or " " in second:
                raise ValueError(f"the merges contain {shown(line)}, which is not a pair")
            merges.append((first, second))
    return merges


def byte_letters() -> list[str]:
    """The letter that stands for each byte: itself where it can be printed, else one from 256 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    return [chr(n) for n in sorted(printable)] + [chr(n) for n in range(256, 512 - len(printable))]
