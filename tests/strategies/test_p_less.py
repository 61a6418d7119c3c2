"""p-less and its normalised variant, by hand and against the definition."""

from __future__ import annotations

import torch
from hypothesis import given

from autodeco.strategies import PLess, PLessNorm
from tests.strategies.conftest import hidden, kept_tokens, log, logit_rows


def kept(strategy, logits):
    return kept_tokens(strategy.shape(hidden(logits), logits))


def test_by_hand():
    logits = log(0.5, 0.3, 0.15, 0.05)
    # Σp² = 0.25 + 0.09 + 0.0225 + 0.0025 = 0.365, so only the first stays.
    assert kept(PLess(), logits) == [[0]]
    # (4 · 0.365 - 1) / 3 = 0.1533: the third, 0.15, goes.
    assert kept(PLessNorm(), logits) == [[0, 1]]
    # At temperature 2, p is proportional to √p: 0.379, 0.294, 0.208, 0.120; Σp² = 0.287, and norm's threshold 0.050.
    assert kept(PLess(2.0), logits) == [[0, 1]]
    assert kept(PLessNorm(2.0), logits) == [[0, 1, 2, 3]]


def test_the_kept_are_renormalised():
    logits = log(0.4, 0.35, 0.2, 0.05)  # Σp² = 0.325
    shaped = PLess().shape(hidden(logits), logits)
    torch.testing.assert_close(shaped.logits.softmax(-1), torch.tensor([[8 / 15, 7 / 15, 0, 0]]))
    assert shaped.temperature.tolist() == [1]
    assert shaped.top_p.tolist() == [1]


def test_uniform_rows_keep_everything():
    for vocab_size in (1, 2, 3, 7, 1000, 49_152):
        logits = torch.zeros(2, vocab_size)
        for strategy in (PLess(), PLessNorm()):
            assert len(kept(strategy, logits)[0]) == vocab_size


@given(logits=logit_rows())
def test_keeps_exactly_what_the_definition_says(logits):
    probabilities = logits.double().softmax(-1)
    collision = probabilities.square().sum(-1, keepdim=True)
    vocab_size = logits.shape[-1]
    for strategy, threshold in (
        (PLess(), collision),
        (PLessNorm(), (vocab_size * collision - 1) / max(1, vocab_size - 1)),
    ):
        found = strategy.shape(hidden(logits), logits).logits > logits - 5000
        decided = (probabilities - threshold).abs() > 1e-6
        assert torch.equal(found[decided], (probabilities >= threshold)[decided])
