"""What every strategy has to do, on rows of every kind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from autodeco.heads import RowOptions
from autodeco.strategies import get_strategy, strategy_names
from tests.strategies.conftest import distinct_heads, hidden, logit_rows

SPECS = [
    "greedy",
    "default",
    "static:temperature=0.7,top_p=0.8",
    "static:temperature=1.4,top_p=0.8,top_k=5,min_p=0.05",
    "min-p:min_p=0.2",
    "p-less",
    "p-less-norm:temperature=1.5",
    "min-k",
    "top-n-sigma:n=1.5,temperature=2",
    "edt:theta=0.5",
    "dynatemp:range=0.5",
    "autodeco",
    "temperature-head",
    "top-p-head",
    "mean-shift:temperature=0.6,top_p=0.9",
    "shuffled:bank={bank}",
]


def test_every_strategy_is_here():
    assert {spec.partition(":")[0] for spec in SPECS} == set(strategy_names())


def build(spec, bank):
    return get_strategy(spec.format(bank=bank)).bind(distinct_heads())


@pytest.mark.parametrize("spec", SPECS)
@given(logits=logit_rows())
def test_a_proper_distribution_that_keeps_the_order_and_the_most_likely_token(spec, bank, logits):
    shaped = build(spec, bank).shape(hidden(logits), logits)
    assert shaped.logits.dtype == torch.float32
    assert shaped.logits.shape == logits.shape
    assert shaped.temperature.shape == shaped.top_p.shape == logits.shape[:-1]
    assert not shaped.logits.isnan().any()
    probabilities = shaped.logits.softmax(-1)
    assert torch.allclose(probabilities.sum(-1), torch.ones(len(logits)), atol=1e-5)
    assert (probabilities[logits == -float("inf")] == 0).all()
    most_likely = logits.argmax(-1, keepdim=True)
    assert (probabilities.gather(-1, most_likely) == probabilities.amax(-1, keepdim=True)).all()
    for row, likely in zip(shaped.logits, logits, strict=True):
        kept = row > row.max() - 5000
        inside = row[kept][likely[kept].argsort()]  # from the least likely
        assert (inside.diff() >= 0).all()
        # What was cut keeps its order and a finite distance, so that a grammar can still choose among it.
        outside = ~kept & likely.isfinite()
        assert row[outside].isfinite().all()
        assert (row[outside][likely[outside].argsort()].diff() >= 0).all()


@pytest.mark.parametrize("spec", SPECS)
@given(logits=logit_rows())
def test_rows_that_are_switched_off_and_bounds_on_the_temperature(spec, bank, logits):
    enabled = torch.arange(len(logits)) % 2 == 1
    options = RowOptions(enabled, torch.full((len(logits),), 0.5))
    shaped = build(spec, bank).shape(hidden(logits), logits, options)
    assert torch.equal(shaped.logits[~enabled], logits[~enabled])
    assert (shaped.temperature[~enabled] == 1).all()
    if not spec.startswith(("greedy", "default", "top-p-head")):
        assert (shaped.temperature[enabled] <= 0.5).all()
    assert not shaped.logits.isnan().any()


@pytest.mark.parametrize("spec", SPECS)
def test_any_leading_dimensions_give_the_same(spec, bank):
    logits = torch.randn(6, 30) * 3
    flat = build(spec, bank).shape(hidden(logits), logits)
    deep = logits.view(2, 3, 30)
    shaped = build(spec, bank).shape(hidden(deep), deep)
    torch.testing.assert_close(shaped.logits.view(6, 30), flat.logits)
    torch.testing.assert_close(shaped.temperature.view(6), flat.temperature)


@pytest.mark.parametrize("spec", SPECS)
def test_the_input_is_left_alone(spec, bank):
    logits = torch.randn(4, 300) * 3
    before = logits.clone()
    build(spec, bank).shape(hidden(logits), logits)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("spec", SPECS)
def test_bfloat16_logits_are_shaped_in_float32(spec, bank):
    logits = (torch.randn(4, 300) * 3).bfloat16()
    shaped = build(spec, bank).shape(hidden(logits), logits)
    expected = build(spec, bank).shape(hidden(logits), logits.float())
    torch.testing.assert_close(shaped.logits, expected.logits)
