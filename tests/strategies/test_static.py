"""Static settings against Transformers' own warpers; greedy; the fixed means."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from autodeco.heads import RowOptions
from autodeco.strategies import Default, Greedy, MeanShift, Static
from tests.strategies.conftest import hidden, kept_tokens, log, logit_rows


def warped(logits, temperature, top_k, top_p, min_p):
    """Transformers' own chain, in its own order."""
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    if min_p:
        scores = MinPLogitsWarper(min_p)(None, scores)
    return scores.softmax(-1)


@given(
    logits=logit_rows(),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 3, 7, 100]),
    top_p=st.sampled_from([0.1, 0.45, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.03, 0.2, 0.9]),
)
def test_same_distribution_as_transformers(logits, temperature, top_k, top_p, min_p):
    probabilities = (logits / temperature).softmax(-1)
    ordered = probabilities.sort(dim=-1, descending=True).values
    if top_p < 1:  # which of equal tokens crosses the edge is the one thing that the two may decide differently
        assume(all(len(row[row > 0].unique()) == int((row > 0).sum()) for row in ordered))
    if min_p:  # a token exactly at the threshold
        assume(((ordered / ordered[:, :1] - min_p).abs() > 1e-5).all())
    expected = warped(logits, temperature, top_k, top_p, min_p)
    assume(top_p == 1 or _far_from_the_edge(logits, temperature, top_k, top_p))
    found = Static(temperature, top_p, top_k, min_p).shape(hidden(logits), logits).logits.softmax(-1)
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def _far_from_the_edge(logits, temperature, top_k, top_p):
    """Whether no cumulative sum is so close to top-p that rounding decides."""
    probabilities = warped(logits.double(), temperature, top_k, 1.0, 0.0)
    return bool(((probabilities.sort(dim=-1, descending=True).values.cumsum(-1) - top_p).abs() > 1e-5).all())


def test_order_is_temperature_top_k_top_p_min_p():
    logits = log(0.4, 0.3, 0.2, 0.1)
    # Top-k leaves 4/7 and 3/7, of which 0.5 needs one token; without top-k two would stay.
    assert kept_tokens(Static(top_k=2, top_p=0.5).shape(hidden(logits), logits)) == [[0]]
    assert kept_tokens(Static(top_p=0.5).shape(hidden(logits), logits)) == [[0, 1]]
    # Temperature 1/2 squares: 16, 9, 4 and 1 thirtieths, so min-p 0.3 (times 16) drops the third; 0.5 of 0.4 would not.
    assert kept_tokens(Static(0.5, min_p=0.3).shape(hidden(logits), logits)) == [[0, 1]]
    assert kept_tokens(Static(min_p=0.3).shape(hidden(logits), logits)) == [[0, 1, 2]]
    # Min-p last: top-p 0.9 is of all the mass. vLLM's order (min-p 0.45 first: 0.4, 0.3, 0.2) would drop the third.
    assert kept_tokens(Static(top_p=0.75, min_p=0.45).shape(hidden(logits), logits)) == [[0, 1, 2]]


def test_probabilities_by_hand():
    logits = log(0.4, 0.3, 0.2, 0.1)
    found = Static(0.5, top_p=0.8).shape(hidden(logits), logits)
    torch.testing.assert_close(found.logits.softmax(-1), torch.tensor([[16 / 25, 9 / 25, 0, 0]]))
    assert found.temperature.tolist() == [0.5]
    assert found.top_p.tolist() == pytest.approx([0.8])


def test_greedy_leaves_one_token_even_of_equal_ones():
    logits = torch.tensor([[1.0, 3.0, 3.0, float("-inf")], [0.0, 0.0, 0.0, 0.0]])
    assert kept_tokens(Greedy().shape(hidden(logits), logits)) == [[1], [0]]
    assert Greedy().greedy
    assert not Default().greedy


def test_default_changes_nothing():
    logits = torch.randn(2, 3, 11, dtype=torch.bfloat16)
    shaped = Default().shape(hidden(logits), logits)
    assert torch.equal(shaped.logits, logits.float())
    assert shaped.temperature.shape == (2, 3)
    assert (shaped.temperature == 1).all()
    assert (shaped.top_p == 1).all()


def test_mean_shift_is_the_static_setting_of_the_same_numbers(backend):
    logits = torch.randn(5, 300) * 3
    shaped = MeanShift(0.61, 0.93).shape(hidden(logits), logits)
    torch.testing.assert_close(shaped.logits, Static(0.61, 0.93).shape(hidden(logits), logits).logits)


@pytest.mark.parametrize("strategy", [Static(1.5, 0.8), Static(1.5, 0.8, 3, 0.1), MeanShift(1.5, 0.8), Greedy()])
def test_options_of_single_rows(strategy):
    logits = torch.randn(3, 20) * 3
    options = RowOptions(torch.tensor([True, False, True]), torch.tensor([float("inf"), float("inf"), 0.5]))
    shaped = strategy.shape(hidden(logits), logits, options)
    plain = strategy.shape(hidden(logits), logits)
    torch.testing.assert_close(shaped.logits[0], plain.logits[0])
    torch.testing.assert_close(shaped.logits[1], logits[1])
    assert shaped.temperature[1] == 1
    assert shaped.top_p[1] == 1
    if not strategy.greedy:
        assert shaped.temperature[2] == 0.5
        bounded = type(strategy)(0.5, *([0.8, 3, 0.1] if getattr(strategy, "top_k", 0) else [0.8]))
        torch.testing.assert_close(shaped.logits[2], bounded.shape(hidden(logits), logits).logits[2])


def test_outside_the_kept_set_tokens_keep_their_proportions():
    logits = log(0.4, 0.3, 0.2, 0.1)
    shaped = Static(top_k=2, top_p=0.9, min_p=0.5).shape(hidden(logits), logits).logits
    allowed = shaped[:, 2:].softmax(-1)  # a grammar that forbids all that was kept
    torch.testing.assert_close(allowed, torch.tensor([[2 / 3, 1 / 3]]), atol=1e-3, rtol=1e-3)
