"""Single tokens against finite differences and exhaustive search."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autodeco.evaluation.diagnosis import tokens


def drawn(seed, count=40, vocab=12, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, vocab, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, vocab, (count,), generator=generator)


def test_value_and_slopes():
    logits, targets = drawn(0)
    beta = torch.linspace(0.5, 5, len(logits), dtype=torch.float64).requires_grad_()
    expected = (beta[:, None] * logits).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    (first,) = torch.autograd.grad(expected.sum(), beta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), beta)
    found = tokens.log_probability(logits, targets, beta.detach())
    torch.testing.assert_close(found.value, expected.detach())
    torch.testing.assert_close(found.first, first.detach())
    torch.testing.assert_close(found.second, second)
    torch.testing.assert_close(tokens.value(logits, targets, beta.detach()), expected.detach())


@given(st.integers(0, 10_000), st.sampled_from([0.3, 3.0, 30.0]))
def test_best_beta_is_that_of_a_search(seed, scale):
    logits, targets = drawn(seed, scale=scale)
    grid = torch.logspace(-0.3, 1.3, 400, dtype=torch.float64).clamp(0.5, 20)
    values = torch.stack([tokens.value(logits, targets, beta) for beta in grid])
    low, high = (torch.full((len(logits),), bound, dtype=torch.float64) for bound in (0.5, 20.0))
    found = tokens.best_beta(logits, targets, low, high)
    reached = tokens.value(logits, targets, found)
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
    exact = tokens.value(logits, targets, tokens.best_beta(logits, targets, low, high))
    found = tokens.value(logits, targets, tokens.best_beta(logits.float(), targets, low, high))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-5)


def test_best_common_beta():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 30, generator=generator, dtype=torch.float64)
    targets = (logits / 0.7).softmax(-1).multinomial(1, generator=generator)[:, 0]
    grid = torch.logspace(-0.301, 1.301, 16, dtype=torch.float64)
    slopes = [tokens.log_probability(logits, targets, beta) for beta in grid]
    sums = [torch.stack([getattr(at, name).sum() for at in slopes]) for name in ("value", "first")]
    found = tokens.best_common_beta(grid, *sums)
    at_found = tokens.log_probability(logits, targets, torch.tensor(found))
    newton = found - float(at_found.first.sum() / at_found.second.sum())
    assert found == pytest.approx(newton, abs=2e-3)
    assert found == pytest.approx(1 / 0.7, abs=0.05)
    falling, rising = -torch.ones(16), torch.ones(16)
    assert tokens.best_common_beta(grid, sums[0], falling) == pytest.approx(float(grid[0]))
    assert tokens.best_common_beta(grid, sums[0], rising) == pytest.approx(float(grid[-1]))


def test_entropy():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(tokens.entropy(logits), torch.tensor([4.0, 1.0], dtype=torch.float64).log())
