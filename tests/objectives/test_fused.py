"""The fused objectives are the eager ones: same losses, same gradients, over shapes and ranges."""

import copy
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autodeco.config import AutoDecoConfig
from autodeco.heads import DecodingHeads
from autodeco.objectives import chunks, eager, fused, head_gradients, soft_nucleus
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
    torch.testing.assert_close(output.loss.double(), expected_output.loss, rtol=1e-5, atol=1e-7)
    assert output.easy.equal(expected_output.easy)
    assert output.rows.equal(expected_output.rows)
    # All heads' gradients as one vector: one that cancels to nothing has no digits of its own.
    scale = max(gradient.abs().max() for gradient in expected_gradients).clamp(min=1e-8)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert (gradient.double() - wanted).abs().max() / scale < tolerance


class PositionHeads(torch.nn.Module):
    """Heads whose parameters are T and P themselves, one of each a position: their gradients are ∂L/∂T and ∂L/∂P.

    Hidden states are ``[..., 1]`` indices of positions.
    """

    needs_statistics = needs_base_statistics = False

    def __init__(self, temperature, top_p, vocab_size):
        super().__init__()
        self.config = AutoDecoConfig(hidden_size=1, vocab_size=vocab_size)
        self.temperatures, self.top_ps = torch.nn.Parameter(temperature), torch.nn.Parameter(top_p)

    def base_statistics(self, logits):
        return None

    def temperature(self, hidden, base_statistics):
        return self.temperatures[hidden.squeeze(-1).long()]

    def top_p(self, hidden, temperature, statistics):
        return self.top_ps[hidden.squeeze(-1).long()]


ROWS = {
    "random": lambda n, v: torch.randn(n, v) * 3,
    "flat": lambda n, v: torch.randn(n, v) * 0.1,
    "peaked": lambda n, v: torch.randn(n, v).exp() * 8,
    "uniform": lambda n, v: torch.zeros(n, v),
    "one-hot": lambda n, v: torch.full((n, v), -50.0).index_fill_(1, torch.tensor([v // 2]), 50.0),
    "ties": lambda n, v: torch.randint(-4, 5, (n, v)).float() * 2,
    "bfloat16": lambda n, v: (torch.randn(n, v) * 4).bfloat16().float(),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    objective=st.sampled_from([("released", {}), ("released", {"scoring_rule": "quadratic"}), ("end_to_end", {})]),
    vocab_size=st.sampled_from([1, 2, 7, 64, 65, 300, 1100, 9000, 50_000]),
    kind=st.sampled_from(sorted(ROWS)),
    temperatures=st.tuples(st.floats(0.0101, 2.0), st.floats(0.0101, 2.0)),
    top_ps=st.tuples(st.floats(0.0, 0.9999), st.floats(0.0, 0.9999)),
    masking=st.sampled_from([0.0, 0.6, 1.0]),
    weighted=st.booleans(),
    row_weight=st.sampled_from([None, 2.0, 0.0, -1.5]),
    soft_nucleus=st.sampled_from(["inclusive", "exclusive"]),
    importance_ratio_cap=st.sampled_from([None, 0.7, 3.0]),
)
def test_losses_and_both_derivatives_are_those_of_eager_at_every_position(
    backend,
    seed,
    objective,
    vocab_size,
    kind,
    temperatures,
    top_ps,
    masking,
    weighted,
    row_weight,
    soft_nucleus,
    importance_ratio_cap,
):
    torch.manual_seed(seed)
    objective, own_options = objective
    count = 6
    logits = ROWS[kind](count, vocab_size)
    temperature = torch.linspace(*temperatures, count)
    # Off round numbers: where P is the very sum of some equal probabilities, either side's derivative is right.
    top_p = torch.linspace(*top_ps, count) * 0.9998 + 1e-5
    labels = torch.randint(0, vocab_size, (1, count + 1))
    labels[0, 1:3] = logits[:2].argmax(-1)
    labels[0, 5] = -100
    indices = torch.arange(count + 1.0).view(1, -1, 1)
    draws = torch.rand(1, count)
    outputs, gradients = [], []
    for module, dtype in ((eager, torch.float64), (fused, torch.float32)):
        heads = PositionHeads(temperature.to(dtype), top_p.to(dtype), vocab_size)
        lm_head = lambda hidden, dtype=dtype: logits[hidden.squeeze(-1).long()].to(dtype)  # noqa: E731
        output = getattr(module, objective)(
            heads,
            indices,
            lm_head,
            labels,
            draws,
            row_weights=None if row_weight is None else torch.tensor([row_weight]),
            easy_token_masking=masking,
            dynamic_fine_tuning=weighted,
            soft_nucleus=soft_nucleus,
            importance_ratio_cap=importance_ratio_cap,
            **own_options,
        )
        output.loss.backward()
        outputs.append(output)
        gradients.append((heads.temperatures.grad.double(), heads.top_ps.grad.double()))
    assert outputs[0].easy.equal(outputs[1].easy)
    # 1e-5 of the largest terms that are added up in it: log p̃ = log p - α (c - P) - log Z, and its derivatives.
    largest = (1 if row_weight is None else abs(row_weight)) * max(1, importance_ratio_cap or 0)
    # A ratio's relative error is the absolute one of two log-probabilities, down to -1000 here, from float32 logits.
    relative = 1e-5 if importance_ratio_cap is None else 2e-4
    losses = [output.token_losses.double() for output in outputs]
    torch.testing.assert_close(losses[1], losses[0], rtol=relative, atol=3e-5 * largest)
    valid = labels[0, 1:] != -100
    targets = labels[0, 1:].clamp(min=0)
    divided = (logits - logits.amax(-1, keepdim=True)).double() / temperature.unsqueeze(-1).double()
    p = divided.softmax(-1)
    terms = (divided.gather(-1, targets.unsqueeze(-1)).squeeze(-1).abs() + (p * divided).sum(-1).abs()) / temperature
    terms += 30 * (p * divided.abs()).sum(-1) / temperature
    by_temperature, by_top_p = ((found - wanted).abs()[valid] for wanted, found in zip(*gradients, strict=True))
    assert (by_temperature <= (largest * 1e-5 * terms + relative * gradients[0][0].abs() + 1e-6)[valid]).all()
    assert (by_top_p <= largest * 1e-5 * 30 + relative * gradients[0][1].abs()[valid]).all()


@pytest.mark.parametrize("scoring_rule", ["logarithmic", "quadratic"])
@pytest.mark.parametrize("forbidden", [-math.inf, torch.finfo(torch.float32).min])
def test_forbidden_tokens_count_for_nothing(backend, scoring_rule, forbidden):
    torch.manual_seed(0)
    count, vocab_size = 6, 300
    logits = torch.randn(count, vocab_size) * 3
    is_forbidden = torch.rand(count, vocab_size) < 0.3
    targets = logits.masked_fill(is_forbidden, -math.inf).argsort(-1)[:, -7]
    labels = torch.cat([torch.tensor([0]), targets]).unsqueeze(0)
    indices = torch.arange(count + 1.0).view(1, -1, 1)
    found = []
    # Eager is given so small a logit that its probability is 0, as its gradient of one that is infinite is NaN.
    for module, dtype, smallest in ((eager, torch.float64, -1e5), (fused, torch.float32, forbidden)):
        own = logits.masked_fill(is_forbidden, smallest).to(dtype)
        heads = PositionHeads(
            torch.full((count,), 0.7, dtype=dtype), torch.full((count,), 0.9, dtype=dtype), vocab_size
        )
        lm_head = lambda hidden, own=own: own[hidden.squeeze(-1).long()]  # noqa: E731
        output = module.released(heads, indices, lm_head, labels, scoring_rule=scoring_rule)
        output.loss.backward()
        found.append([output.loss.detach(), heads.temperatures.grad, heads.top_ps.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other.double(), one.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("soft_nucleus", ["inclusive", "exclusive"])
@pytest.mark.parametrize("kind", ["random", "peaked", "ties"])
def test_the_largest_vocabulary(backend, kind, soft_nucleus):
    torch.manual_seed(0)
    logits = ROWS[kind](2, 262_144)
    case = torch.arange(3.0).view(1, 3, 1), torch.tensor([[0, int(logits[0].argmax()), 262_143]])
    found = []
    for module, dtype in ((eager, torch.float64), (fused, torch.float32)):
        heads = PositionHeads(torch.tensor([0.7, 1.3], dtype=dtype), torch.tensor([0.9, 0.95], dtype=dtype), 262_144)
        lm_head = lambda hidden, dtype=dtype: logits[hidden.squeeze(-1).long()].to(dtype)  # noqa: E731
        options = {"dynamic_fine_tuning": False, "soft_nucleus": soft_nucleus}
        output = module.end_to_end(heads, case[0], lm_head, case[1], **options)
        output.loss.backward()
        found.append([output.loss.detach(), heads.temperatures.grad, heads.top_ps.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other.double(), one.double(), rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("objective", ["released", "end_to_end"])
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("temperature_features", [True, False])
def test_gradients_of_real_heads(backend, objective, statistics, temperature_features):
    torch.manual_seed(0)
    features = {"statistics_features": statistics, "temperature_features": temperature_features}
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=1100, mlp_hidden_size=16, **features))
    hidden, weight = torch.randn(2, 7, 8), torch.randn(1100, 8)
    labels = torch.randint(0, 1100, (2, 7))
    labels[0, :2] = -100
    row_weights = torch.tensor([1.5, -0.5])
    expected, found = both(objective, heads, hidden, weight, labels, torch.rand(2, 6), row_weights=row_weights)
    assert_same(expected, found, tolerance=1e-5)


def hidden_state_gradients(objective, heads, hidden, weight, labels):
    """By eager in float64, and by fused in float32."""
    found = []
    for module, dtype in ((eager, torch.float64), (fused, torch.float32)):
        own = hidden.to(dtype).requires_grad_()
        output = getattr(module, objective)(copy.deepcopy(heads).to(dtype), own, weight.to(dtype), labels)
        (3 * output.loss).backward()
        found.append(own.grad.double())
    return found


@pytest.mark.parametrize("objective", ["released", "end_to_end"])
@pytest.mark.parametrize("features", [False, True])
def test_gradients_that_reach_the_hidden_states(backend, objective, features, monkeypatch):
    monkeypatch.setattr(head_gradients, "_HEADS_CHUNK", 5)  # several chunks, the last one short
    config = {"statistics_features": features, "temperature_features": features}
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=700, mlp_hidden_size=16, **config))
    hidden, weight = torch.randn(2, 7, 8), torch.randn(700, 8)
    labels = torch.randint(0, 700, (2, 7))
    labels[0, :3] = -100
    found = hidden_state_gradients(objective, heads, hidden, weight, labels)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5 * float(found[0].abs().max()))
    assert found[0][0, 2:-1].abs().sum(-1).min() > 0
    assert not found[1][:, -1].any()  # the last position has no next token
    assert not found[1][0, :2].any()  # nor do those before an ignored one


@pytest.mark.parametrize("objective", ["released", "end_to_end"])
def test_the_gradient_by_hidden_states_is_that_of_finite_differences_with_logits_held(objective):
    """The logits are given: only what the heads read is moved."""
    heads = DecodingHeads(AutoDecoConfig(hidden_size=6, vocab_size=50, mlp_hidden_size=16)).double()
    hidden, weight = torch.randn(1, 4, 6, dtype=torch.float64), torch.randn(50, 6, dtype=torch.float64)
    labels = torch.randint(0, 50, (1, 4))
    with torch.no_grad():  # P takes T and the statistics as given, which a finite difference cannot
        heads.top_p_head.mlp[0].weight[:, 6:] = 0

    def loss(read):
        def lm_head(_):
            return hidden[0, :-1] @ weight.T

        return getattr(fused, objective)(heads, read, lm_head, labels).loss

    read = hidden.clone().requires_grad_()
    loss(read).backward()
    expected = torch.zeros_like(hidden)
    for place in range(hidden.numel()):
        step = torch.zeros(hidden.numel(), dtype=torch.float64)
        step[place] = 1e-5
        step = step.view_as(hidden)
        expected.view(-1)[place] = (loss(hidden + step) - loss(hidden - step)) / 2e-5
    torch.testing.assert_close(read.grad, expected, rtol=1e-4, atol=1e-7)


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
@pytest.mark.parametrize("exclusive", [False, True])
def test_closed_form_derivatives_match_autograd(vocab_size, temperature, top_p, exclusive):
    logits = torch.randn(6, vocab_size, dtype=torch.float64) * 3
    targets = torch.cat([logits[:3].argmax(-1), torch.randint(0, vocab_size, (3,))])
    t = torch.full((6,), temperature, dtype=torch.float64, requires_grad=True)
    p = torch.full((6,), top_p, dtype=torch.float64, requires_grad=True)
    rows = row(logits, t.detach(), torch.float64)
    found = soft_nucleus_terms(rows, targets, p.detach(), 30.0, 1e-9, exclusive=exclusive)
    log_p = (logits / t.unsqueeze(-1)).log_softmax(-1)
    order = log_p.exp().sort(dim=-1, descending=True, stable=True)
    cumulative = order.values.cumsum(-1) - (order.values if exclusive else 0)
    excess = (cumulative - p.unsqueeze(-1)).relu()
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
    monkeypatch.setattr(chunks, "_CHUNK_ELEMENTS", 150)  # three positions a chunk
    chunked = both("released", *case)[1]
    torch.testing.assert_close(whole[0].loss, chunked[0].loss)
    for one, other in zip(whole[1], chunked[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_chunks_are_as_small_as_memory_asks(monkeypatch):
    device = torch.device("cpu")
    monkeypatch.setattr(chunks, "free_memory", lambda _: 10**12)
    assert chunks.chunk_size(10**6, 50_000, device) == chunks._CHUNK_ELEMENTS // 50_000
    assert chunks.chunk_size(336, 50_000, device) == 168  # not 335 and 1
    assert chunks.chunk_size(7, 50_000, device) == 7
    monkeypatch.setattr(chunks, "free_memory", lambda _: 24 * 50_000 * 3)
    assert chunks.chunk_size(10**6, 50_000, device) == 3
    monkeypatch.setattr(chunks, "free_memory", lambda _: 0)
    assert chunks.chunk_size(10**6, 50_000, device) == 1


def test_a_chunk_that_does_not_fit_is_taken_in_halves():
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=50))
    hidden, weight, labels = torch.randn(1, 18, 8), torch.randn(50, 8), torch.randint(0, 50, (1, 18))
    sizes = []

    def lm_head(chunk):
        sizes.append(len(chunk))
        if len(chunk) > 5:
            raise torch.OutOfMemoryError("no memory")
        return chunk @ weight.T

    found = fused.released(heads, hidden, lm_head, labels)
    assert sizes == [17, 8, 4, 4, 4, 4, 1]
    torch.testing.assert_close(found.loss, fused.released(heads, hidden, weight, labels).loss)


def test_logits_that_a_function_returns_are_not_overwritten():
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=50))
    logits = torch.randn(5, 50)
    before = logits.clone()
    fused.released(heads, torch.randn(1, 6, 8), lambda _: logits, torch.randint(0, 50, (1, 6)))
    assert logits.equal(before)


def test_evaluation_without_gradients():
    heads = DecodingHeads(AutoDecoConfig(hidden_size=8, vocab_size=20))
    case = heads, torch.randn(1, 6, 8), torch.randn(20, 8), torch.randint(0, 20, (1, 6))
    with torch.no_grad():
        output = fused.released(*case)
    assert not output.loss.requires_grad
    torch.testing.assert_close(output.loss, fused.released(*case).loss.detach())
