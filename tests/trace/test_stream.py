"""A running generation, token by token."""

import pytest
import torch

from autodeco.trace.stream import stream_tokens
from autodeco.trace.text import PieceStream
from tests.conftest import byte_tokenizer, tiny_autodeco


@pytest.fixture
def model(tokenizer):
    return tiny_autodeco(vocab_size=len(tokenizer))


def streamed(model, tokenizer, prompt, **settings):
    tokens = []
    stream_tokens(model, tokenizer, prompt, tokens.append, **settings)
    return tokens


@pytest.mark.parametrize("strategy", ["autodeco", "static:temperature=0.5,top_p=0.8", "greedy"])
def test_tokens_and_their_values_are_those_of_generate(model, tokenizer, strategy):
    prompt = tokenizer.encode("Hi")
    with model.decode_with(strategy):
        found = streamed(model, tokenizer, prompt, max_new_tokens=20, seed=3)
        torch.manual_seed(3)
        ids = torch.tensor([prompt])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, trace=True)
    assert [token.token_id for token in found] == expected.sequences[0, len(prompt) :].tolist()
    torch.testing.assert_close(torch.tensor([token.temperature for token in found]), expected.temperature[0])
    torch.testing.assert_close(torch.tensor([token.top_p for token in found]), expected.top_p[0])


def test_a_temperature_multiplies_and_zero_is_greedy(model, tokenizer):
    greedy = streamed(model, tokenizer, [1, 9], max_new_tokens=8, temperature=0, seed=1)
    cold = streamed(model, tokenizer, [1, 9], max_new_tokens=8, temperature=1e-4, seed=2)
    assert [token.token_id for token in greedy] == [token.token_id for token in cold]


def test_whoever_stops_it_has_the_tokens_so_far_and_a_model_that_works(model, tokenizer):
    tokens = []

    def stop_at_three(token):
        tokens.append(token)
        if len(tokens) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream_tokens(model, tokenizer, [1, 9], stop_at_three, max_new_tokens=10)
    assert tokens == streamed(model, tokenizer, [1, 9], max_new_tokens=3)


def test_pieces_are_whole_characters():
    tokenizer = byte_tokenizer()
    pieces = PieceStream(tokenizer)
    ids = tokenizer.encode("añ€", add_special_tokens=False)
    assert [pieces.add(token_id) for token_id in ids] == ["a", "", "ñ", "", "", "€"]
