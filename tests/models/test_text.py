"""The text encoder: OpenCLIP's tokens, and CLIP's hidden state before its last layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from starvsr.models.text import ClipTokenizer, TextEncoder, clean
from tests.golden.seeded_init import seeded_parameter

GOLDEN = Path(__file__).parents[1] / "golden"
# The entries of CLIP's table that the golden prompts can use; see CONTRIBUTING.md.
VOCABULARY = (GOLDEN / "tokens_vocab.json").read_text("utf-8")
MERGES = (GOLDEN / "tokens_merges.txt").read_text("utf-8")
PROMPTS: list[dict[str, Any]] = json.loads((GOLDEN / "tokens.json").read_text("utf-8"))["prompts"]

CONFIG: dict[str, Any] = {
    "hidden_act": "gelu",
    "hidden_size": 32,
    "intermediate_size": 64,
    "max_position_embeddings": 77,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 49408,
}


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer(VOCABULARY, MERGES)


@pytest.fixture(scope="module")
def published() -> Any:
    """The whole seeded text model, with the layer that we leave out."""
    from transformers import CLIPTextConfig, CLIPTextModel

    module: Any = CLIPTextModel(CLIPTextConfig(**CONFIG))
    state = {key: seeded_parameter(key, value.shape) for key, value in module.state_dict().items()}
    module.load_state_dict(state)
    module.eval()
    return module


def kept_state(published: Any) -> dict[str, Tensor]:
    """What a weights file holds: `text_model.*` but for the last layer."""
    layers = getattr(published, "text_model", published)
    last = f"encoder.layers.{CONFIG['num_hidden_layers'] - 1}."
    state: dict[str, Tensor] = layers.state_dict()
    return {f"text_model.{key}": v for key, v in state.items() if not key.startswith(last)}


def small_encoder(published: Any, **changes: object) -> TextEncoder:
    config = {**CONFIG, "num_hidden_layers": CONFIG["num_hidden_layers"] - 1, **changes}
    return TextEncoder.from_state(config, kept_state(published), VOCABULARY, MERGES)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt["text"][:20] or "empty")
def test_tokens_are_openclips(tokenizer: ClipTokenizer, prompt: dict[str, Any]) -> None:
    assert tokenizer(prompt["text"], 77) == prompt["ids"]


def test_long_text_keeps_the_end_token(
    tokenizer: ClipTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tokenizer("a good video " * 24, 77)
    cut = tokenizer("a good video " * 200, 77)
    assert whole[:3] == [49406, 320, 886] and whole[72:75] == [1455, 49407, 0]
    assert len(cut) == 77 and cut[0] == 49406 and cut[-1] == 49407 and 0 not in cut
    assert cut[:73] == whole[:73]
    assert "the prompt has 600 tokens" in caplog.text
    assert "the last 525 are ignored" in caplog.text


def test_text_is_cleaned_as_for_training(tokenizer: ClipTokenizer) -> None:
    assert clean("  A \t good\n\nVIDEO ") == "a good video"
    assert clean("“Panda” &amp;amp; it’s") == '"panda" & it\'s'
    assert clean("cafe\u0301") == "café"
    assert tokenizer("A  Good\tvideo", 77) == tokenizer("a good video", 77)


def test_context_is_the_normed_state_before_the_last_layer(
    published: Any, tokenizer: ClipTokenizer
) -> None:
    encoder = small_encoder(published)
    for prompt in PROMPTS:
        with torch.no_grad():
            ids = torch.tensor([tokenizer(prompt["text"], 77)])
            states = published(input_ids=ids, output_hidden_states=True).hidden_states
            layers = getattr(published, "text_model", published)
            expected = layers.final_layer_norm(states[-2])
        context = encoder(prompt["text"])
        assert context.shape == (1, 77, 32) and context.dtype == torch.float32
        torch.testing.assert_close(context, expected, atol=1e-6, rtol=0)
        assert not torch.allclose(context, layers.final_layer_norm(states[-1]), atol=1e-2)


def test_half_precision_parameters_are_computed_in_float32(published: Any) -> None:
    state = {key: value.half() for key, value in kept_state(published).items()}
    config = {**CONFIG, "num_hidden_layers": 2}
    halves = TextEncoder.from_state(config, state, VOCABULARY, MERGES)("a good video")
    wholes = small_encoder(published)("a good video")
    assert halves.dtype == torch.float32
    assert 0 < float((halves - wholes).norm() / wholes.norm()) < 1e-2


def test_parameters_are_not_copied(published: Any) -> None:
    state = kept_state(published)
    config = {**CONFIG, "num_hidden_layers": 2}
    encoder = TextEncoder.from_state(config, state, VOCABULARY, MERGES)
    ours = {value.data_ptr() for value in encoder.module.state_dict().values()}
    assert ours == {value.data_ptr() for value in state.values()}


def test_refuses_what_does_not_fit(published: Any) -> None:
    with pytest.raises(ValueError, match="does not fit its configuration"):
        small_encoder(published, num_hidden_layers=3)
    with pytest.raises(ValueError, match="does not fit its configuration"):
        small_encoder(published, hidden_size=64)
    with pytest.raises(ValueError, match="77 positions, the network reads 78 tokens"):
        small_encoder(published)("a good video", 78)


def test_refuses_broken_tables() -> None:
    with pytest.raises(ValueError, match="not JSON"):
        ClipTokenizer("{", MERGES)
    with pytest.raises(ValueError, match="words to numbers"):
        ClipTokenizer("[1]", MERGES)
    without = json.dumps({k: v for k, v in json.loads(VOCABULARY).items() if k != "a</w>"})
    with pytest.raises(ValueError, match="lacks 1 entries, among them 'a</w>'"):
        ClipTokenizer(without, MERGES)
    with pytest.raises(ValueError, match="not a pair"):
        ClipTokenizer(VOCABULARY, MERGES + "a b c\n")
    with pytest.raises(ValueError, match="do not fit the vocabulary"):
        ClipTokenizer(VOCABULARY, MERGES + "q q\n")
