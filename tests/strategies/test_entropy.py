"""EDT and dynatemp against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from autodeco.strategies import Dynatemp, EntropyDynamicTemperature
from tests.strategies.conftest import hidden, log

INF = float("inf")


def temperature(strategy, logits):
    return float(strategy.shape(hidden(logits), logits).temperature)


def test_edt_by_hand():
    # Two equal tokens: H = log 2 = 0.69315. T = 0.9 · 0.8^(0.5 / 0.69315) = 0.9 · exp(-0.16096) = 0.9 · 0.85132
    assert temperature(EntropyDynamicTemperature(0.9, theta=0.5), log(0.5, 0.5)) == pytest.approx(0.76619, abs=1e-5)
    # H of (0.5, 0.25, 0.25) = 1.5 · log 2 = 1.03972; 0.5^(1 / 1.03972) = 0.51341
    found = temperature(EntropyDynamicTemperature(theta=1.0, base=0.5), log(0.5, 0.25, 0.25))
    assert found == pytest.approx(0.51341, abs=1e-5)


def test_edt_at_the_ends():
    sure = torch.tensor([[0.0, -INF, -INF]])
    assert temperature(EntropyDynamicTemperature(theta=0.1), sure) == pytest.approx(0.01)
    flat = torch.zeros(1, 100_000)
    assert temperature(EntropyDynamicTemperature(theta=1e-3), flat) == pytest.approx(1.0, abs=1e-4)


def test_dynatemp_by_hand():
    # H / log V = 1.5 · log 2 / log 4 = 0.75 for (0.5, 0.25, 0.25, 0): T = 0.5 + 1 · 0.75
    logits = log(0.5, 0.25, 0.25, 0.0)
    assert temperature(Dynatemp(range=0.5), logits) == pytest.approx(1.25)
    assert temperature(Dynatemp(range=0.5, exponent=2), logits) == pytest.approx(0.5 + 0.5625)
    # The range is cut at 0: from 0 to 2.4, not from -0.8.
    assert temperature(Dynatemp(0.8, range=1.6), logits) == pytest.approx(2.4 * 0.75)


def test_dynatemp_at_the_ends():
    assert temperature(Dynatemp(range=0.5), torch.zeros(1, 9)) == pytest.approx(1.5)
    assert temperature(Dynatemp(range=0.5), torch.tensor([[0.0, -INF]])) == pytest.approx(0.5)
    assert temperature(Dynatemp(range=2.0), torch.tensor([[0.0, -INF]])) == pytest.approx(0.01)


def test_each_row_has_its_own_temperature_and_nothing_is_cut():
    logits = torch.cat([log(0.5, 0.5), log(0.99, 0.01)])
    shaped = EntropyDynamicTemperature(theta=0.5).shape(hidden(logits), logits)
    assert shaped.temperature[0] > shaped.temperature[1]
    torch.testing.assert_close(shaped.logits, logits / shaped.temperature.unsqueeze(-1))
    assert math.isclose(float(shaped.top_p.sum()), 2)
