import math

import pytest
import torch

from autodeco import distribution
from autodeco.config import AutoDecoConfig
from autodeco.errors import ConfigError
from autodeco.heads import DecodingHeads, RowOptions
from autodeco.networks import PROMPT_FEATURES, PROMPT_QUERIES, PromptPooling
from autodeco.steering import get_steering
from autodeco.strategies import get_strategy


def make_heads(**settings):
    """Heads with a summary that tells: new ones add nothing."""
    heads = DecodingHeads(AutoDecoConfig(**{"hidden_size": 16, "vocab_size": 300, "prompt_summary": True, **settings}))
    with torch.no_grad():
        for name, parameter in heads.named_parameters():
            if ".prompt." in name:
                parameter.normal_(std=0.3)
    return heads


def test_pooling_by_hand():
    pooling = PromptPooling(4, 2)
    states = torch.tensor([[[0.0, 1.0, 1.0, 1.0], [3.0, 0.0, 0.0, 4.0], [9.0, 9.0, 9.0, 9.0]]])
    scaled = [[value / math.sqrt(sum(v * v for v in own) / 4) for value in own] for own in states[0].tolist()]
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.zero_()
        pooling.query[0, 0] = 2.0  # scores are 2 h_0 / √4 = h_0; the other queries give the mean
        pooling.read[5, 3], pooling.read_bias[5] = 1.0, -1.2  # what is read is the last number less 1.2, if above
        pooling.read[7, 1] = 1.0
        pooling.down[0, 5] = 1.0  # the first query's
        pooling.down[1, PROMPT_FEATURES + 7] = -1.0  # the second's
        pooling.up[0, 0], pooling.up[1, 0], pooling.up[1, 1] = 1.0, 3.0, 5.0
    weight = 1 / (1 + math.exp(scaled[0][0] - scaled[1][0]))  # of the second; the third is not of the prompt
    assert scaled[0][3] < 1.2 < scaled[1][3]
    first = weight * (scaled[1][3] - 1.2)
    second = -(scaled[0][1] + scaled[1][1]) / 2
    assert scaled[0][1] > 0 == scaled[1][1]
    found = pooling(states, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(found, torch.tensor([[first, 3 * first + 5 * second]]))


def test_new_pooling_adds_nothing_yet_and_is_the_same_every_time():
    torch.manual_seed(1)
    first = PromptPooling(4, 4)
    torch.manual_seed(2)
    second = PromptPooling(4, 4)
    assert all(one.equal(other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    assert first(torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)).eq(0).all()
    assert len({tuple(query) for query in first.query.tolist()}) == PROMPT_QUERIES


def test_what_is_not_of_the_prompt_has_no_influence_and_an_empty_prompt_adds_nothing():
    heads = make_heads()
    states = torch.randn(2, 6, 16)
    mask = torch.tensor([[False, False, True, True, True, False], [False] * 6])
    expected = heads.summarise_prompt(states[:1, 2:5], torch.ones(1, 3))
    states[0, 0], states[0, 5], states[1] = 1e30, float("nan"), float("inf")
    found = heads.summarise_prompt(states, mask)
    torch.testing.assert_close(found[:1], expected)
    assert found[1].eq(0).all()
    found.sum().backward()
    assert all(p.grad.isfinite().all() for n, p in heads.named_parameters() if ".prompt." in n)


def test_parameters_beside_the_released_ones():
    names = {name: tuple(p.shape) for name, p in make_heads().named_parameters()}
    without = {n: tuple(p.shape) for n, p in make_heads(prompt_summary=False).named_parameters()}
    assert {name: names[name] for name in names.keys() - without.keys()} == {
        f"{head}.prompt.{name}": shape
        for head in ("temp_head", "top_p_head")
        for name, shape in {
            "query": (4, 16),
            "read": (128, 16),
            "read_bias": (128,),
            "down": (64, 512),
            "up": (256, 64),
        }.items()
    }


def test_new_heads_with_a_summary_draw_the_same_weights_as_without():
    torch.manual_seed(3)
    without = DecodingHeads(AutoDecoConfig(hidden_size=16)).state_dict()
    torch.manual_seed(3)
    found = DecodingHeads(AutoDecoConfig(hidden_size=16, prompt_summary=True)).state_dict()
    assert all(found[name].equal(tensor) for name, tensor in without.items())


def test_the_summary_is_added_before_the_relu():
    heads = make_heads(statistics_features=False)
    hidden, summary = torch.randn(3, 16), heads.summarise_prompt(torch.randn(1, 5, 16), torch.ones(1, 5))
    seen = heads.input_of(hidden, summary)
    first, _, last = heads.temp_head.mlp
    temperature = 2 * last((first(hidden) + summary[:, :256]).relu()).squeeze(-1).sigmoid()
    torch.testing.assert_close(heads.temperature(seen), temperature)
    first, _, last = heads.top_p_head.mlp
    features = torch.cat([hidden, temperature.unsqueeze(-1)], -1)
    top_p = last((first(features) + summary[:, 256:]).relu()).squeeze(-1).sigmoid()
    torch.testing.assert_close(heads.top_p(seen, temperature), top_p)


@pytest.mark.parametrize("frozen", [False, True])  # frozen heads take the kernels' path
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extended_heads_choose_exactly_as_before(frozen, dtype):
    heads = make_heads(prompt_summary=False).requires_grad_(not frozen)
    extended = heads.with_prompt_summary()
    if frozen:
        extended.requires_grad_(False)
    hidden, logits = torch.randn(2, 7, 16).to(dtype), torch.randn(2, 7, 300).to(dtype)
    summary = extended.summarise_prompt(hidden, torch.ones(2, 7))
    expected = heads.shape(hidden, logits)
    found = extended.shape(extended.input_of(hidden, summary.unsqueeze(1)), logits)
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))
    assert not heads.config.prompt_summary
    assert extended.with_prompt_summary().state_dict().keys() == extended.state_dict().keys()
    with pytest.raises(ConfigError, match=r"after layer 0 already .* and 3 is asked for"):
        extended.with_prompt_summary(3)


@pytest.mark.parametrize("absent", [None, "temperature_head", "top_p_head"])
def test_frozen_heads_shape_in_one_call_what_they_shape_step_by_step(absent):
    heads = make_heads(**({absent: False} if absent else {}))
    hidden, logits = torch.randn(2, 5, 16), torch.randn(2, 5, 300) * 4
    with torch.no_grad():
        summary = heads.summarise_prompt(torch.randn(2, 9, 16), torch.ones(2, 9)).unsqueeze(1)
    seen = heads.input_of(hidden, summary)
    with torch.no_grad():
        expected = heads.shape(seen, logits)
        found = heads.requires_grad_(False).shape(seen, logits)
    torch.testing.assert_close(found.temperature, expected.temperature)
    torch.testing.assert_close(found.top_p, expected.top_p, rtol=1e-5, atol=1e-6)


def test_strategies_steering_and_options_of_rows_pass_the_summary_on():
    heads = make_heads().requires_grad_(False)
    hidden, logits = torch.randn(3, 16), torch.randn(3, 300)
    seen = heads.input_of(hidden, heads.summarise_prompt(torch.randn(1, 5, 16), torch.ones(1, 5)))
    expected = heads.temperature(seen)
    assert not torch.allclose(expected, make_heads(prompt_summary=False).temperature(hidden))
    for strategy in ("autodeco", "temperature-head"):
        shaped = get_strategy(strategy).bind(heads).shape(seen, logits)
        torch.testing.assert_close(shaped.temperature, expected)
    alone = get_strategy("top-p-head").bind(heads).shape(seen, logits)
    statistics = distribution.probability_statistics(logits.softmax(-1))
    torch.testing.assert_close(alone.top_p, heads.top_p(seen, torch.ones(3), statistics))
    steered = get_steering("certain", 2.0).shape(heads, seen, logits)
    torch.testing.assert_close(steered.temperature, expected * 0.5)
    options = RowOptions(torch.ones(3, dtype=torch.bool), torch.full((3,), float("inf")))
    torch.testing.assert_close(heads.shape(seen, logits, options).temperature, expected)


def test_hidden_states_alone_are_refused():
    heads = make_heads()
    with pytest.raises(ConfigError, match="see a summary of the prompt"):
        heads.temperature(torch.randn(3, 16))
    with pytest.raises(ConfigError, match="see a summary of the prompt"):
        heads.shape(torch.randn(3, 16), torch.randn(3, 300))
    assert make_heads(prompt_summary=False).summarise_prompt(torch.randn(1, 2, 16), torch.ones(1, 2)) is None
    with pytest.raises(ConfigError, match="prompt_summary must be true or false, found 1"):
        AutoDecoConfig(hidden_size=4, prompt_summary=1)
