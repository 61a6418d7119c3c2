"""Heads as strategies, alone and together; what was measured of them; their values dealt to other tokens."""

from __future__ import annotations

import pytest
import torch

from autodeco import AutoDecoConfig, DecodingHeads
from autodeco.distribution import probability_statistics
from autodeco.errors import ConfigError, DataError
from autodeco.heads import RowOptions
from autodeco.strategies import (
    get_strategy,
    heads_choices,
    load_bank,
    means_of_trace,
    measured_means,
    save_bank,
)
from tests.strategies.conftest import HIDDEN_SIZE


@pytest.fixture
def rows():
    return torch.randn(6, HIDDEN_SIZE), torch.randn(6, 50) * 3


def test_autodeco_is_the_heads(heads, rows, backend):
    found = get_strategy("autodeco").bind(heads).shape(*rows)
    for value, expected in zip(found, heads.shape(*rows), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("name", ["autodeco", "temperature-head", "top-p-head"])
def test_a_temperature_multiplies_what_the_heads_choose(heads, rows, name):
    """As a client's does: it divides logits that the heads have shaped."""
    own = get_strategy(name).bind(heads).shape(*rows)
    strategy = get_strategy(f"{name}:temperature=0.5")
    assert (strategy.spec, get_strategy(f"{name}:temperature=1").spec) == (f"{name}:temperature=0.5", name)
    shaped = strategy.bind(heads).shape(*rows)
    torch.testing.assert_close(shaped.temperature, own.temperature / 2)
    assert torch.equal(shaped.top_p, own.top_p)
    torch.testing.assert_close(shaped.logits.softmax(-1), (own.logits / 0.5).softmax(-1))
    options = RowOptions(torch.tensor([False] + [True] * 5), torch.tensor([9.0, 0.2] + [9.0] * 4))
    limited = strategy.bind(heads).shape(*rows, options)
    assert limited.temperature[0] == 1
    assert limited.temperature[1] == pytest.approx(min(0.2, own.temperature[1].item()) / 2)
    torch.testing.assert_close(limited.temperature[2:], own.temperature[2:] / 2)
    torch.testing.assert_close(limited.logits[0].softmax(-1), rows[1][0].softmax(-1))
    with pytest.raises(ConfigError, match="use the strategy 'greedy'"):
        get_strategy(f"{name}:temperature=0")


def test_temperature_head_alone(heads, rows):
    shaped = get_strategy("temperature-head").bind(heads).shape(*rows)
    torch.testing.assert_close(shaped.temperature, heads.temperature(rows[0]))
    assert (shaped.top_p == 1).all()
    torch.testing.assert_close(shaped.logits, rows[1] / shaped.temperature.unsqueeze(-1))


def test_top_p_head_alone_sees_temperature_one(heads, rows):
    shaped = get_strategy("top-p-head").bind(heads).shape(*rows)
    assert (shaped.temperature == 1).all()
    statistics = probability_statistics(rows[1].softmax(-1))
    expected = heads.top_p_head(rows[0], torch.ones(6), statistics)
    torch.testing.assert_close(shaped.top_p, expected, atol=1e-5, rtol=1e-5)
    inside = shaped.logits.softmax(-1) > 0
    torch.testing.assert_close(shaped.logits[inside], rows[1][inside])
    assert not inside.all()


def test_measured_choices_are_those_of_decoding_with_temperature_features(rows, backend):
    heads = DecodingHeads(AutoDecoConfig(hidden_size=HIDDEN_SIZE, vocab_size=50, temperature_features=True))
    shaped = heads.shape(*rows)
    for found, expected in zip(heads_choices(heads, *rows), (shaped.temperature, shaped.top_p), strict=True):
        torch.testing.assert_close(found, expected)


def test_one_head_shares_the_weights(heads):
    view = get_strategy("temperature-head").bind(heads).heads
    assert view.temp_head is heads.temp_head
    assert view.top_p_head is None
    assert heads.top_p_head is not None
    assert sum(parameter.numel() for parameter in view.parameters()) == sum(
        parameter.numel() for parameter in heads.temp_head.parameters()
    )


def test_a_head_that_is_missing(rows):
    heads = DecodingHeads(AutoDecoConfig(hidden_size=HIDDEN_SIZE, top_p_head=False))
    with pytest.raises(ConfigError, match="no top-p head"):
        get_strategy("top-p-head").bind(heads)
    with pytest.raises(ConfigError, match="needs decoding heads"):
        get_strategy("autodeco").shape(*rows)


def test_options_reach_the_heads(heads, rows):
    options = RowOptions(torch.arange(6) < 3, torch.full((6,), 0.2))
    shaped = get_strategy("autodeco").bind(heads).shape(*rows, options)
    assert (shaped.temperature[:3] <= 0.2).all()
    torch.testing.assert_close(shaped.logits[3:], rows[1][3:])


def test_measured_are_the_heads_own_values(heads, rows, backend):
    expected = heads.shape(*rows)
    temperature, top_p = heads_choices(heads, *rows)
    torch.testing.assert_close(temperature, expected.temperature)
    torch.testing.assert_close(top_p, expected.top_p, atol=1e-5, rtol=1e-5)
    means = measured_means(heads, *rows)
    assert means == pytest.approx((float(expected.temperature.mean()), float(expected.top_p.mean())), abs=1e-5)


def test_means_leave_out_what_comes_after_the_end():
    nan = float("nan")
    trace = torch.tensor([[0.5, 1.0, nan], [0.6, nan, nan]]), torch.tensor([[0.9, 0.8, nan], [0.7, nan, nan]])
    assert means_of_trace(*trace) == pytest.approx((0.7, 0.8))
    with pytest.raises(DataError, match="no pair"):
        means_of_trace(torch.tensor([nan]), torch.tensor([nan]))
    with pytest.raises(DataError, match="not pairs"):
        means_of_trace(torch.ones(2), torch.ones(3))


def test_shuffled_draws_whole_pairs_with_the_banks_frequencies(bank):
    strategy = get_strategy(f"shuffled:bank={bank},seed=1")
    logits = torch.randn(3000, 2, 4)
    shaped = strategy.shape(torch.zeros(3000, 2, HIDDEN_SIZE), logits)
    pairs, counts = torch.stack([shaped.temperature, shaped.top_p], -1).reshape(-1, 2).unique(dim=0, return_counts=True)
    torch.testing.assert_close(pairs, torch.tensor([[0.4, 0.7], [0.9, 0.95], [1.3, 0.5]]))
    # 6,000 draws with chance 1/3: five standard deviations are 5 · √(6000 · 2/9) = 183.
    assert ((counts - 2000).abs() < 183).all()


def test_shuffled_shapes_each_row_by_its_pair(bank):
    logits = torch.randn(40, 30) * 3
    shaped = get_strategy(f"shuffled:bank={bank}").shape(torch.zeros(40, HIDDEN_SIZE), logits)
    for row in range(40):
        setting = f"static:temperature={shaped.temperature[row]},top_p={shaped.top_p[row]}"
        expected = get_strategy(setting).shape(torch.zeros(1, HIDDEN_SIZE), logits[row : row + 1])
        torch.testing.assert_close(shaped.logits[row], expected.logits[0])


def test_shuffled_repeats_and_leaves_the_engines_randomness_alone(bank):
    logits, hidden_states = torch.randn(64, 4), torch.zeros(64, HIDDEN_SIZE)
    spec = f"shuffled:bank={bank},seed=5"
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = get_strategy(spec)
    draws = [first.shape(hidden_states, logits).temperature for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    again = get_strategy(spec)
    assert torch.equal(again.shape(hidden_states, logits).temperature, draws[0])
    assert torch.equal(again.shape(hidden_states, logits).temperature, draws[1])
    assert not torch.equal(draws[0], draws[1])
    other = get_strategy(f"shuffled:bank={bank},seed=6")
    assert not torch.equal(other.shape(hidden_states, logits).temperature, draws[0])


def test_a_bank_that_cannot_be_used(tmp_path):
    path = tmp_path / "bank"
    path.write_bytes(b"not a bank")
    with pytest.raises(DataError, match="is no bank"):
        load_bank(path)
    save_bank(path, torch.tensor([-0.5]), torch.tensor([0.5]))
    with pytest.raises(DataError, match="negative"):
        get_strategy(f"shuffled:bank={path}")
