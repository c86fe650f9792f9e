"""T5's word pieces and encoder."""

from __future__ import annotations

import pytest
import torch

from starvsr.models.t5 import END, PADDING, PieceTokenizer, T5Encoder, build_t5
from tests.zoo.published_cogvideox import T5_CONFIG, t5_state, word_pieces


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return word_pieces()


def test_texts_end_and_are_filled_up(pieces: bytes, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = PieceTokenizer(pieces)
    ids = tokenizer("a good dog", 20)
    end = ids.index(END)
    assert len(ids) == 20 and 0 < end < 19
    assert ids[end + 1 :] == [PADDING] * (19 - end)
    assert tokenizer("", 3) == [END, PADDING, PADDING]
    assert not caplog.records
    assert tokenizer("a good dog", 3) == [*ids[:2], END]
    assert f"has {end} tokens, and the last {end - 2} are ignored" in caplog.text


@pytest.mark.parametrize("length", [9, 24])
def test_the_encoder_sees_padding_as_any_word(pieces: bytes, length: int) -> None:
    state = t5_state()
    encoder = T5Encoder.from_state(T5_CONFIG, state, pieces)
    model = build_t5(T5_CONFIG).eval()
    model.load_state_dict({**state, "encoder.embed_tokens.weight": state["shared.weight"]})
    ids = torch.tensor([encoder.tokenizer("the bees", length)])
    everything = torch.ones_like(ids)
    with torch.no_grad():
        wanted = model(input_ids=ids, attention_mask=everything).last_hidden_state
        masked = model(input_ids=ids, attention_mask=(ids != PADDING).long()).last_hidden_state
    found = encoder("the bees", length)
    assert found.shape == (1, length, 24) and found.dtype == torch.float32
    torch.testing.assert_close(found, wanted)
    assert (masked - wanted).abs().max() > 1e-3


def test_it_works_in_the_type_of_its_parameters(pieces: bytes) -> None:
    exact = T5Encoder.from_state(T5_CONFIG, t5_state(), pieces)("a dog", 12)
    half_state = {name: value.bfloat16() for name, value in t5_state().items()}
    half = T5Encoder.from_state(T5_CONFIG, half_state, pieces)
    assert {parameter.dtype for parameter in half.module.parameters()} == {torch.bfloat16}
    found = half("a dog", 12)
    assert found.dtype == torch.float32
    assert 0 < (found - exact).norm() < 0.05 * exact.norm()


def test_what_does_not_fit_is_refused(pieces: bytes) -> None:
    with pytest.raises(ValueError, match="word pieces cannot be read"):
        PieceTokenizer(b"no pieces")
    with pytest.raises(ValueError, match="does not fit its configuration"):
        T5Encoder.from_state({**T5_CONFIG, "d_ff": 16}, t5_state(), pieces)
    with pytest.raises(ValueError, match="does not fit its configuration"):
        T5Encoder.from_state(T5_CONFIG, {}, pieces)
    small = {**t5_state(), "shared.weight": torch.rand(20, 24)}
    with pytest.raises(ValueError, match="the encoder has 20 tokens"):
        T5Encoder.from_state({**T5_CONFIG, "vocab_size": 20}, small, pieces)
