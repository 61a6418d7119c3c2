"""Single tokens against finite differences and exhaustive search."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autodeco.evaluation.diagnosis import tokens


def drawn(seed, count=40, vocab=12, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, vocab, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, vocab, (count,), generator=generator)


def value(logits, targets, beta):
    return tokens.Rows(logits, targets).value(beta)


def test_value_and_slopes():
    logits, targets = drawn(0)
    beta = torch.linspace(0.5, 5, len(logits), dtype=torch.float64).requires_grad_()
    expected = (beta[:, None] * logits).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    (first,) = torch.autograd.grad(expected.sum(), beta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), beta)
    found = tokens.Rows(logits, targets).slopes(beta.detach())
    torch.testing.assert_close(found.value, expected.detach())
    torch.testing.assert_close(found.first, first.detach())
    torch.testing.assert_close(found.second, second)
    torch.testing.assert_close(value(logits, targets, beta.detach()), expected.detach())


@pytest.mark.parametrize("scale", [0.3, 3.0, 10.0])
def test_values_between_the_grid_points_and_their_gradient(scale):
    logits, targets = drawn(1, count=200, vocab=500, scale=scale)
    beta = torch.logspace(math.log10(0.501), math.log10(19.9), 200, dtype=torch.float64).requires_grad_()
    found = tokens.values_between(*tokens.on_grid(logits, targets), beta)
    exact = tokens.Rows(logits, targets).slopes(beta.detach())
    assert (found - exact.value).abs().max() < 0.01
    (slope,) = torch.autograd.grad(found.sum(), beta)
    assert ((slope - exact.first).abs() < 0.02 * (1 + exact.first.abs())).all()


def test_values_between_are_exact_at_grid_points_and_stop_at_its_ends():
    logits, targets = drawn(2, count=len(tokens.GRID))
    values, slopes = tokens.on_grid(logits, targets)
    torch.testing.assert_close(tokens.values_between(values, slopes, tokens.GRID), values.diagonal())
    beyond = tokens.values_between(values, slopes, torch.full((len(values),), 50.0, dtype=torch.float64))
    torch.testing.assert_close(beyond, values[:, -1])


@given(st.integers(0, 10_000), st.sampled_from([0.3, 3.0, 30.0]))
def test_best_beta_is_that_of_a_search(seed, scale):
    logits, targets = drawn(seed, scale=scale)
    grid = torch.logspace(-0.3, 1.3, 400, dtype=torch.float64).clamp(0.5, 20)
    values = torch.stack([value(logits, targets, beta) for beta in grid])
    low, high = (torch.full((len(logits),), bound, dtype=torch.float64) for bound in (0.5, 20.0))
    found = tokens.best_beta(logits, targets, low, high)
    reached = value(logits, targets, found)
    assert (reached >= values.max(0).values - 1e-9).all()
    assert ((found >= 0.5) & (found <= 20)).all()
    below_mean = logits.gather(-1, targets[:, None])[:, 0] < logits.mean(-1)
    assert (found[below_mean] == 0.5).all()


def test_an_arg_max_never_has_enough():
    logits, _ = drawn(0, scale=0.3)
    low, high = (torch.full((len(logits),), bound, dtype=torch.float64) for bound in (0.5, 20.0))
    assert (tokens.best_beta(logits, logits.argmax(-1), low, high) == 20).all()


def test_best_beta_in_float32_with_certain_tokens():
    logits, targets = drawn(0, count=200, vocab=1000, scale=8)
    low, high = torch.full((200,), 0.5), torch.full((200,), 20.0)
    exact = value(logits, targets, tokens.best_beta(logits, targets, low, high))
    found = value(logits, targets, tokens.best_beta(logits.float(), targets, low, high))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-5)


def test_best_common_beta():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 30, generator=generator, dtype=torch.float64)
    targets = (logits / 0.7).softmax(-1).multinomial(1, generator=generator)[:, 0]
    sums = [part.sum(0) for part in tokens.on_grid(logits, targets)]
    found = tokens.best_common_beta(*sums)
    at_found = tokens.Rows(logits, targets).slopes(found)
    newton = found - float(at_found.first.sum() / at_found.second.sum())
    assert found == pytest.approx(newton, abs=2e-3)
    assert found == pytest.approx(1 / 0.7, abs=0.05)
    falling, rising = -torch.ones(12), torch.ones(12)
    assert tokens.best_common_beta(sums[0], falling) == 0.5
    assert tokens.best_common_beta(sums[0], rising) == 20


def test_entropy():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, -90.0, -90.0], [100.0, 0.0, 0.0, 0.0]])
    found = tokens.entropy(*tokens.on_grid(logits, torch.tensor([0, 1, 0])))
    torch.testing.assert_close(found, torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64).log())


def test_slices_make_no_difference(monkeypatch):
    logits, targets = drawn(3)
    low, high = torch.full((40,), 0.5), torch.full((40,), 20.0)

    def everything():
        values, slopes = tokens.on_grid(logits, targets)
        best = tokens.best_beta(logits, targets, low, high, tokens.guessed_beta(slopes))
        slope = tokens.slopes_by_temperature(logits, targets, 0.8)
        return values, slopes, best, slope, tokens.values_at(logits, targets, torch.stack([best, 2 * best], dim=-1))

    whole = everything()
    monkeypatch.setitem(tokens._SLICE_ELEMENTS, "cpu", 36)  # three rows
    for found, expected in zip(everything(), whole, strict=True):
        torch.testing.assert_close(found, expected)


def test_guess_is_near_the_optimum():
    logits, targets = drawn(1)
    _, slopes = tokens.on_grid(logits, targets)
    low, high = torch.full((40,), 0.5), torch.full((40,), 20.0)
    best = tokens.best_beta(logits, targets, low, high)
    guess = tokens.guessed_beta(slopes)
    assert ((guess / best).log().abs() <= math.log(2) / 2 + 1e-3).all()  # in the same interval of the grid
