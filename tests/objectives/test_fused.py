"""The fused objectives are the eager ones: same losses, same gradients, over shapes and ranges."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autodeco.config import AutoDecoConfig
from autodeco.heads import DecodingHeads
from autodeco.objectives import eager, fused, soft_nucleus
from autodeco.objectives.soft_nucleus import ScaledRows, soft_nucleus_terms


def both(objective, heads, hidden, weight, labels, draws=None, **options):
    """Eager in float64 (the truth) and fused in float32: outputs and gradients."""
    results = []
    for module, dtype in ((eager, torch.float64), (fused, torch.float32)):
        own = copy.deepcopy(heads).to(dtype)
        output = getattr(module, objective)(own, hidden.to(dtype), weight.to(dtype), labels, draws, **options)
        output.loss.backward()
        results.append((output, [parameter.grad for parameter in own.parameters()]))
    return results


def assert_same(expected, found, tolerance):
    (expected_output, expected_gradients), (output, gradients) = expected, found
    torch.testing.assert_close(output.loss.double(), expected_output.loss, rtol=1e-5, atol=1e-8)
    assert output.easy.equal(expected_output.easy)
    assert output.rows.equal(expected_output.rows)
    # All heads' gradients as one vector: one that cancels to nothing has no digits of its own.
    scale = max(gradient.abs().max() for gradient in expected_gradients).clamp(min=1e-8)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert (gradient.double() - wanted).abs().max() / scale < tolerance


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    objective=st.sampled_from(["released", "end_to_end"]),
    vocab_size=st.sampled_from([2, 7, 300, 1100, 9000]),
    spread=st.sampled_from([0.0, 1.0, 4.0]),
    temperature_bias=st.sampled_from([-4.0, -1.0, 0.0, 3.0]),
    top_p_bias=st.sampled_from([-6.0, 0.0, 2.0, 6.0]),
    masking=st.sampled_from([0.0, 0.6, 1.0]),
    weighted=st.booleans(),
)
def test_same_losses_and_gradients(
    seed, objective, vocab_size, spread, temperature_bias, top_p_bias, masking, weighted
):
    torch.manual_seed(seed)
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=vocab_size, mlp_hidden_size=16))
    with torch.no_grad():
        heads.temp_head.mlp[2].bias.fill_(temperature_bias)
        heads.top_p_head.mlp[2].bias.fill_(top_p_bias)
    hidden, weight = torch.randn(2, 7, 8), torch.randn(vocab_size, 8) * spread / 8**0.5
    labels = torch.randint(0, vocab_size, (2, 7))
    labels[0, :2] = -100
    labels[1, 1:4] = (hidden[1, :3] @ weight.T).argmax(-1)  # some easy ones
    expected, found = both(
        objective, heads, hidden, weight, labels, torch.rand(2, 6), easy_token_masking=masking,
        dynamic_fine_tuning=weighted,
    )  # fmt: skip
    assert_same(expected, found, tolerance=1e-4)


def row(logits, temperature, dtype=torch.float32):
    shifted = (logits - logits.amax(-1, keepdim=True)).to(dtype)
    temperature = temperature.double()
    scaled = shifted.double() / temperature.unsqueeze(-1)
    p = scaled.softmax(-1)
    normaliser = scaled.exp().sum(-1)
    return ScaledRows(shifted, p.to(dtype), temperature, normaliser, (p * scaled).sum(-1))


@pytest.mark.parametrize("vocab_size", [600, 20_000])
@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [0.0, 0.5, 0.95, 0.999, 1.0])
def test_closed_form_derivatives_match_autograd(vocab_size, temperature, top_p):
    logits = torch.randn(6, vocab_size, dtype=torch.float64) * 3
    targets = torch.cat([logits[:3].argmax(-1), torch.randint(0, vocab_size, (3,))])
    t = torch.full((6,), temperature, dtype=torch.float64, requires_grad=True)
    p = torch.full((6,), top_p, dtype=torch.float64, requires_grad=True)
    found = soft_nucleus_terms(row(logits, t.detach(), torch.float64), targets, p.detach(), 30.0, 1e-9)
    log_p = (logits / t.unsqueeze(-1)).log_softmax(-1)
    order = log_p.exp().sort(dim=-1, descending=True, stable=True)
    excess = (order.values.cumsum(-1) - p.unsqueeze(-1)).relu()
    log_m = torch.zeros_like(excess).scatter(-1, order.indices, -30 * excess)
    normaliser = (log_p + log_m).exp().sum(-1) + 1e-9
    expected = (log_p + log_m).gather(-1, targets.unsqueeze(-1)).squeeze(-1) - normaliser.log()
    by_temperature, by_top_p = torch.autograd.grad(expected.sum(), (t, p))
    bound = soft_nucleus.TOLERANCE
    torch.testing.assert_close(found.log_probability, expected.detach(), rtol=1e-7, atol=bound)
    if top_p < 1.0:  # at P = 1 the last cumulative sums equal P up to rounding, and either side is a subgradient
        torch.testing.assert_close(found.by_temperature, by_temperature, rtol=1e-5, atol=2 * bound)
        torch.testing.assert_close(found.by_top_p, by_top_p, rtol=1e-5, atol=2 * bound)


def test_uniform_rows_fall_back_to_the_whole_vocabulary(monkeypatch):
    lengths = []
    original = soft_nucleus._normaliser_from_prefix
    monkeypatch.setattr(
        soft_nucleus, "_normaliser_from_prefix", lambda *args: lengths.append(args[-1]) or original(*args)
    )
    rows = row(torch.zeros(2, 9000, dtype=torch.float64), torch.ones(2))
    terms = soft_nucleus_terms(rows, torch.tensor([0, 8999]), torch.tensor([0.5, 0.5]), 30.0, 1e-9)
    assert lengths == [256, 4096, 9000]
    assert terms.log_probability[0] > terms.log_probability[1] + 10  # ties: the lower token id comes first


def test_one_hot_rows():
    logits = torch.full((2, 5000), -100.0)
    logits[:, 7] = 100.0
    terms = soft_nucleus_terms(row(logits, torch.ones(2)), torch.tensor([7, 8]), torch.tensor([0.3, 0.9]), 30.0, 1e-9)
    assert all(torch.isfinite(values).all() for values in terms)


@pytest.mark.parametrize("objective", ["released", "end_to_end"])
def test_nothing_to_learn_from(objective):
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=20))
    labels = torch.full((2, 5), -100)
    output = getattr(fused, objective)(heads, torch.randn(2, 5, 8), torch.randn(20, 8), labels)
    output.loss.backward()
    assert output.loss == 0


def test_chunks_add_up(monkeypatch):
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=50))
    case = heads, torch.randn(2, 9, 8), torch.randn(50, 8), torch.randint(0, 50, (2, 9)), torch.rand(2, 8)
    whole = both("released", *case)[1]
    monkeypatch.setattr(fused, "_CHUNK_ELEMENTS", 150)  # three positions a chunk
    chunked = both("released", *case)[1]
    torch.testing.assert_close(whole[0].loss, chunked[0].loss)
    for one, other in zip(whole[1], chunked[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_evaluation_without_gradients():
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=20))
    case = heads, torch.randn(1, 6, 8), torch.randn(20, 8), torch.randint(0, 20, (1, 6))
    with torch.no_grad():
        output = fused.released(*case)
    assert not output.loss.requires_grad
    torch.testing.assert_close(output.loss, fused.released(*case).loss.detach())
