import copy

import pytest
import torch

from autodeco import distribution
from autodeco.config import AutoDecoConfig
from autodeco.heads import DecodingHeads, RowOptions


def make_heads(**settings):
    return DecodingHeads(AutoDecoConfig(hidden_size=16, vocab_size=50, **settings))


def test_parameter_names_and_shapes_are_the_released_ones():
    shapes = {name: tuple(parameter.shape) for name, parameter in make_heads().named_parameters()}
    assert shapes == {
        "temp_head.mlp.0.weight": (256, 16),
        "temp_head.mlp.0.bias": (256,),
        "temp_head.mlp.2.weight": (1, 256),
        "temp_head.mlp.2.bias": (1,),
        "top_p_head.mlp.0.weight": (256, 21),
        "top_p_head.mlp.0.bias": (256,),
        "top_p_head.mlp.2.weight": (1, 256),
        "top_p_head.mlp.2.bias": (1,),
    }
    assert make_heads(statistics_features=False).top_p_head.mlp[0].weight.shape == (256, 17)
    with_features = make_heads(temperature_features=True).named_parameters()
    shapes["temp_head.mlp.0.weight"] = (256, 20)
    assert {name: tuple(parameter.shape) for name, parameter in with_features} == shapes


def test_ranges_hold_at_extreme_inputs():
    heads = make_heads()
    hidden = torch.randn(2, 5, 16) * 1e4
    shaped = heads.shape(hidden, torch.randn(2, 5, 50))
    assert ((shaped.temperature >= 0) & (shaped.temperature <= 2)).all()
    assert ((shaped.top_p >= 0) & (shaped.top_p <= 1)).all()
    assert torch.isfinite(shaped.logits).all()


def test_top_p_gives_no_gradient_to_the_temperature_head():
    heads = make_heads()
    hidden, logits = torch.randn(3, 16), torch.randn(3, 50)
    temperature = heads.temperature(hidden)
    statistics = distribution.probability_statistics(distribution.scale(logits, temperature).softmax(-1))
    heads.top_p(hidden, temperature, statistics).sum().backward()
    assert all(parameter.grad is None for parameter in heads.temp_head.parameters())
    assert all(parameter.grad is not None for parameter in heads.top_p_head.parameters())


@pytest.mark.parametrize("absent", ["temperature_head", "top_p_head"])
def test_an_absent_head_is_one_everywhere(absent):
    heads = make_heads(**{absent: False})
    logits = torch.randn(3, 50)
    shaped = heads.shape(torch.randn(3, 16), logits)
    if absent == "temperature_head":
        assert (shaped.temperature == 1).all()
        assert (shaped.logits < -5000).any()
    else:
        assert (shaped.top_p == 1).all()
        torch.testing.assert_close(shaped.logits, logits / shaped.temperature.unsqueeze(-1))


def test_statistics_features_reach_the_top_p_head():
    heads = make_heads()
    hidden = torch.randn(1, 16).expand(2, -1)
    logits = torch.stack([torch.zeros(50), torch.zeros(50).index_fill(0, torch.tensor([3]), 20.0)])
    with_statistics = heads.shape(hidden, logits).top_p
    assert with_statistics[0] != with_statistics[1]
    without = make_heads(statistics_features=False).shape(hidden, logits).top_p
    assert without[0] == without[1]


def test_temperature_features_are_statistics_of_the_base_distribution():
    heads = make_heads(temperature_features=True)
    hidden = torch.randn(1, 16).expand(2, -1)
    logits = torch.stack([torch.zeros(50), torch.zeros(50).index_fill(0, torch.tensor([3]), 20.0)])
    shaped = heads.shape(hidden, logits)
    assert shaped.temperature[0] != shaped.temperature[1]
    statistics = distribution.probability_statistics(logits.softmax(-1))
    features = torch.cat([hidden, statistics], dim=-1)
    torch.testing.assert_close(shaped.temperature, 2 * heads.temp_head.mlp(features).squeeze(-1).sigmoid())
    without = make_heads().shape(hidden, logits).temperature
    assert without[0] == without[1]
    with pytest.raises(ValueError, match="none were given"):
        heads.temperature(hidden)


def test_temperature_features_take_effect_where_rows_have_options_and_one_head_is_alone():
    heads = make_heads(temperature_features=True, top_p_head=False)
    hidden, logits = torch.randn(3, 16), torch.randn(3, 50) * 5
    options = RowOptions(torch.tensor([True, True, False]), torch.tensor([float("inf"), 0.5, float("inf")]))
    expected = heads.temperature(hidden, distribution.probability_statistics(logits.softmax(-1)))
    found = heads.shape(hidden, logits, options).temperature
    torch.testing.assert_close(found, torch.stack([expected[0], expected[1].clamp(max=0.5), torch.tensor(1.0)]))
    assert not make_heads(temperature_features=True, temperature_head=False).needs_base_statistics


def test_bfloat16_hidden_states_are_taken_in_the_heads_precision():
    shaped = make_heads().shape(torch.randn(2, 16).bfloat16(), torch.randn(2, 50).bfloat16())
    assert shaped.temperature.dtype == shaped.top_p.dtype == shaped.logits.dtype == torch.float32


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("temperature_features", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_heads_shape_in_one_call_what_they_shape_step_by_step(statistics, temperature_features, dtype):
    features = {"statistics_features": statistics, "temperature_features": temperature_features}
    heads = DecodingHeads(AutoDecoConfig(hidden_size=16, vocab_size=3000, **features))
    hidden, logits = torch.randn(2, 5, 16).to(dtype), (torch.randn(2, 5, 3000) * 4).to(dtype)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.mul_(3)
        expected = heads.shape(hidden, logits)
        heads.requires_grad_(False)
        found = heads.shape(hidden, logits)
    torch.testing.assert_close(found.temperature, expected.temperature)
    torch.testing.assert_close(found.top_p, expected.top_p, rtol=1e-5, atol=1e-6)
    kept = (found.logits > -1000).sum() + 1
    assert ((found.logits > -1000) != (expected.logits > -1000)).sum() <= kept // 100
    both = (found.logits > -1000) & (expected.logits > -1000)
    torch.testing.assert_close(found.logits[both], expected.logits[both], rtol=1e-5, atol=1e-4)


def test_frozen_heads_follow_a_change_of_their_parameters_and_can_be_copied():
    heads = DecodingHeads(AutoDecoConfig(hidden_size=16, vocab_size=300)).requires_grad_(False)
    hidden, logits = torch.randn(3, 16), torch.randn(3, 300)
    before = heads.shape(hidden, logits)
    duplicate = copy.deepcopy(heads)
    torch.testing.assert_close(duplicate.shape(hidden, logits).temperature, before.temperature)
    heads.temp_head.mlp[2].bias.add_(1.0)
    assert (heads.shape(hidden, logits).temperature > before.temperature).all()
    heads.temp_head.mlp[2].bias.data.sub_(1.0)
    heads.parameters_changed()
    torch.testing.assert_close(heads.shape(hidden, logits).temperature, before.temperature)


def test_hidden_states_that_are_not_numbers_stay_so():
    heads = DecodingHeads(AutoDecoConfig(hidden_size=16, vocab_size=300)).requires_grad_(False)
    hidden = torch.randn(2, 16)
    hidden[0, 3] = float("nan")
    found = heads.shape(hidden, torch.randn(2, 300))
    assert found.temperature.isnan().tolist() == [True, False]
    assert found.logits[0].isnan().all()
    assert found.logits[1].isfinite().all()
