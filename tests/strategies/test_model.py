"""Strategies in Transformers: the same forward pass, another strategy in the heads' place."""

from __future__ import annotations

import pytest
import torch

from autodeco.errors import ConfigError
from autodeco.strategies import MeanShift, get_strategy

PROMPT = torch.tensor([[1, 17, 33, 54]])


def test_forward_shapes_with_the_strategy_and_then_with_the_heads_again(model):
    with torch.no_grad():
        plain = model(PROMPT)
        with model.decode_with("p-less"):
            inside = model(PROMPT)
        after = model(PROMPT)
    expected = get_strategy("p-less").shape(torch.zeros(1), plain.base_logits)
    torch.testing.assert_close(inside.logits, expected.logits)
    assert torch.equal(inside.base_logits, plain.base_logits)
    assert torch.equal(after.logits, plain.logits)


def test_heads_as_a_strategy_change_nothing(model):
    with torch.no_grad(), model.decode_with("autodeco"):
        inside = model(PROMPT)
    with torch.no_grad():
        assert torch.equal(inside.logits, model(PROMPT).logits)


def test_trace_holds_the_strategys_values(model):
    with model.decode_with(MeanShift(0.5, 0.8)):
        output = model.generate(PROMPT, max_new_tokens=5, min_new_tokens=5, trace=True)
    assert output.temperature.tolist() == [[0.5] * 5]
    assert output.top_p[0].tolist() == pytest.approx([0.8] * 5)


def test_greedy_draws_nothing(model):
    with model.disable_heads():
        expected = model.generate(PROMPT, max_new_tokens=8, do_sample=False)
    state = torch.get_rng_state()
    with model.decode_with("greedy"):
        found = model.generate(PROMPT, max_new_tokens=8)
        assert torch.equal(torch.get_rng_state(), state)
        sampled = model.generate(PROMPT, max_new_tokens=8, do_sample=True)
    assert torch.equal(found, expected)
    assert torch.equal(sampled, expected)


def test_default_is_the_bare_base(model):
    torch.manual_seed(3)
    with model.disable_heads():
        expected = model.generate(PROMPT, max_new_tokens=12)
    torch.manual_seed(3)
    with model.decode_with("default"):
        assert torch.equal(model.generate(PROMPT, max_new_tokens=12), expected)


def test_contexts_nest_and_the_innermost_wins(model):
    with torch.no_grad():
        heads_logits = model(PROMPT).logits
        with model.disable_heads(), model.decode_with("autodeco"):
            assert torch.equal(model(PROMPT).logits, heads_logits)
        with model.decode_with("greedy"), model.decode_with("autodeco"):
            assert torch.equal(model(PROMPT).logits, heads_logits)
        with model.decode_with("greedy"), model.disable_heads():
            assert not hasattr(model(PROMPT), "temperature")


def test_an_unknown_strategy_leaves_the_model_as_it_was(model):
    with pytest.raises(ConfigError, match="p-less"), model.decode_with("p-les"):
        pass
    with pytest.raises(RuntimeError, match="inside"), model.decode_with("greedy"):
        raise RuntimeError("inside")
    with torch.no_grad():
        assert (model(PROMPT).temperature != 1).any()
