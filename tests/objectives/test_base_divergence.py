import pytest
import torch

from autodeco.objectives import base_divergence as module
from autodeco.objectives.base_divergence import base_divergence


def case(dtype=torch.float64):
    return torch.randn(7, 6, dtype=dtype), torch.randn(7, 6, dtype=dtype), torch.randn(40, 6, dtype=dtype)


def test_by_hand():
    # Logits are the hidden states: (log 3, 0) is (3/4, 1/4), (0, 0) is (1/2, 1/2).
    base = torch.tensor([3.0, 1.0], dtype=torch.float64).log().unsqueeze(0)
    found = base_divergence(torch.zeros_like(base), base, torch.eye(2, dtype=torch.float64))
    expected = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    assert found.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("as_function", [False, True])
def test_values_and_gradients_are_those_of_torch_in_chunks_of_any_size(monkeypatch, as_function):
    monkeypatch.setattr(module, "chunk_size", lambda *_: 12)  # three positions at once
    hidden, base, weight = case()

    def capped(states):
        return torch.tanh(states @ weight.T / 5) * 5

    lm_head = capped if as_function else weight
    logits_of = capped if as_function else lambda states: states @ weight.T
    upstream = torch.rand(7, dtype=torch.float64)
    found = []
    for divergence in (
        lambda own: base_divergence(own, base, lm_head),
        lambda own: torch.nn.functional.kl_div(
            logits_of(own).log_softmax(-1), logits_of(base).log_softmax(-1), reduction="none", log_target=True
        ).sum(-1),
    ):
        own = hidden.clone().requires_grad_()
        values = divergence(own)
        (values * upstream).sum().backward()
        found.append((values.detach(), own.grad))
    torch.testing.assert_close(found[0], found[1])


def test_the_gradient_is_that_of_finite_differences():
    hidden, base, weight = case()
    assert torch.autograd.gradcheck(lambda own: base_divergence(own, base, weight), hidden.requires_grad_())


def test_nothing_moved_is_nothing_with_no_gradient():
    hidden, _, weight = case(torch.bfloat16)
    own = hidden.clone().requires_grad_()
    values = base_divergence(own, hidden, weight)
    values.sum().backward()
    assert values.dtype == torch.float32
    assert not values.detach().any()
    assert own.grad.abs().max() < 1e-2  # bfloat16


def test_tokens_that_the_base_excludes_do_not_count():
    hidden, base, weight = case()

    def excluding(states):
        return torch.cat([states @ weight.T, states.new_full((len(states), 1), -torch.inf)], -1)

    torch.testing.assert_close(base_divergence(hidden, base, excluding), base_divergence(hidden, base, weight))
