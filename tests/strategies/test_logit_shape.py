"""Top-nσ and min-k: by hand, against a plain reference, and whatever the temperature."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from autodeco.strategies import MinK, TopNSigma, get_strategy
from autodeco.strategies import logit_shape as module
from tests.strategies.conftest import hidden, kept_tokens, logit_rows

INF = float("inf")


def kept(strategy, logits):
    return kept_tokens(strategy.shape(hidden(logits), logits))


def test_top_n_sigma_by_hand():
    logits = torch.tensor([[4.0, 3.0, 1.0, 0.0]])  # mean 2, σ² = (4 + 1 + 1 + 4) / 4 = 2.5, σ = 1.581
    assert kept(TopNSigma(), logits) == [[0, 1]]  # threshold 2.419
    assert kept(TopNSigma(n=0.6), logits) == [[0]]  # 3.051
    assert kept(TopNSigma(n=2), logits) == [[0, 1, 2]]  # 0.838
    assert kept(TopNSigma(n=3), logits) == [[0, 1, 2, 3]]


def test_top_n_sigma_counts_only_tokens_that_are_allowed():
    logits = torch.tensor([[4.0, 3.0, -INF, 1.0, 0.0, -INF]])
    assert kept(TopNSigma(), logits) == [[0, 1]]
    assert kept(TopNSigma(), torch.tensor([[-INF, 2.0, -INF]])) == [[1]]


def test_min_k_by_hand():
    # R = 10. Drops 1, 5, 1, 3, each over its rank: 1, 2.5, 0.33, 0.75, so two stay; τ / R < 1.
    assert kept(MinK(), torch.tensor([[10.0, 9.0, 4.0, 3.0, 0.0]])) == [[0, 1]]
    # Drops 2, 3, 4 over their ranks: 2, 1.5, 1.33: the head counts for more.
    assert kept(MinK(), torch.tensor([[9.0, 7.0, 4.0, 0.0]])) == [[0]]
    # R = 1, so the fallback is ⌊3 / 1⌋ = 3 of the five, where the cliff (0.4) is after the first.
    nearly_flat = torch.tensor([[1.0, 0.6, 0.4, 0.2, 0.0]])
    assert kept(MinK(), nearly_flat) == [[0, 1, 2]]
    assert kept(MinK(tau=0), nearly_flat) == [[0]]
    assert kept(MinK(tau=2.5), nearly_flat) == [[0, 1]]
    # Flat: everything.
    assert kept(MinK(), torch.zeros(1, 7)) == [list(range(7))]


def test_min_k_order_of_tokens_does_not_matter():
    assert kept(MinK(), torch.tensor([[0.0, 9.0, 3.0, 10.0, 4.0]])) == [[1, 3]]


def test_min_k_forbidden_tokens_do_not_make_a_cliff():
    # Without care the range is infinite, every drop NaN or 0.
    assert kept(MinK(), torch.tensor([[10.0, -INF, 9.0, 4.0, 3.0, 0.0, -INF]])) == [[0, 2]]
    assert kept(MinK(), torch.tensor([[-INF, 2.0]])) == [[1]]


def reference_k(row, tau):
    """The definition that min-k's docstring gives (the paper was not at hand), on one row, token by token."""
    ordered = sorted(row, reverse=True)
    spread = ordered[0] - ordered[-1]
    if spread == 0:
        return len(row)
    drops = [(ordered[i] - ordered[i + 1]) / spread / (i + 1) for i in range(len(row) - 1)]
    return max(drops.index(max(drops)) + 1, math.floor(tau / spread)), drops


@given(logits=logit_rows(max_vocab=60, forbidden=False), tau=st.sampled_from([0.0, 3.0, 40.0]), few=st.booleans())
def test_min_k_is_the_plain_algorithm_with_few_candidates_too(logits, tau, few):
    assume(logits.shape[-1] > 1 and (logits.amax(-1) > logits.amin(-1)).all())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CLIFF_CANDIDATES", 3 if few else 256)
        found = MinK(tau=tau).shape(hidden(logits), logits).logits > logits - 5000
    for row, row_kept in zip(logits.double().tolist(), found, strict=True):
        k, drops = reference_k(row, tau)
        best, second = sorted([*drops, -1.0], reverse=True)[:2]
        spread = max(row) - min(row)
        if best - second < 1e-6 or abs(tau / spread - round(tau / spread)) < 1e-5:
            continue  # rounding decides
        threshold = sorted(row, reverse=True)[min(k, len(row)) - 1]
        assert row_kept.tolist() == [value >= threshold for value in row]


# Powers of two divide without rounding, so that nothing but the definition is tested.
@given(logits=logit_rows(), temperature=st.sampled_from([0.125, 0.5, 2.0, 8.0]))
@pytest.mark.parametrize("strategy", [MinK(tau=0), TopNSigma()])
def test_temperature_changes_nothing_about_what_is_kept(strategy, logits, temperature):
    plain = strategy.shape(hidden(logits), logits).logits > logits - 5000
    scaled = logits / temperature
    assert torch.equal(strategy.shape(hidden(logits), scaled).logits > scaled - 5000, plain)
    hotter = get_strategy(f"{strategy}{',' if ':' in str(strategy) else ':'}temperature={temperature}")
    assert torch.equal(hotter.shape(hidden(logits), logits).logits > scaled - 5000, plain)


def test_temperature_acts_among_the_kept():
    shaped = TopNSigma(2.0).shape(torch.zeros(1), torch.tensor([[4.0, 3.0, 1.0, 0.0]]))
    expected = torch.tensor([2.0, 1.5]).softmax(-1)
    torch.testing.assert_close(shaped.logits.softmax(-1)[0], torch.cat([expected, torch.zeros(2)]))
    assert shaped.temperature.tolist() == [2]
