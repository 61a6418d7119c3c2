import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autodeco import distribution


def reference_nucleus(scaled: np.ndarray, top_p: float) -> np.ndarray:
    """The definition, in float64: walk down a stable descending order until the sum reaches top_p."""
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-scaled, kind="stable")
    mass_before = np.concatenate([[0.0], probabilities[order].cumsum()[:-1]])
    mask = np.zeros(len(scaled), dtype=bool)
    mask[order] = (mass_before < top_p) | (np.arange(len(scaled)) == 0)
    return mask if top_p < 1 else np.ones_like(mask)


def assert_nucleus(scaled: torch.Tensor, inside: torch.Tensor, top_p: torch.Tensor) -> None:
    """The reference's set, except where two cumulative sums differ by less than 1e-6."""
    for row, row_inside, threshold in zip(scaled, inside, top_p, strict=True):
        expected = reference_nucleus(row.double().numpy(), float(threshold))
        if (row_inside.numpy() != expected).any():
            sums = np.sort(row.double().softmax(-1).numpy())[::-1].cumsum()
            assert np.abs(sums - float(threshold)).min() < 1e-6
            assert abs(int(row_inside.sum()) - int(expected.sum())) <= (np.abs(sums - float(threshold)) < 1e-6).sum()


def cut(logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    rows = distribution.scale_rows(logits, temperature, statistics=False)
    return distribution.cut_nucleus(rows, top_p)


ROWS = {
    "random": lambda n, v: torch.randn(n, v) * 3,
    "sharp": lambda n, v: torch.randn(n, v) * 30,
    "uniform": lambda n, v: torch.zeros(n, v),
    "ties": lambda n, v: torch.randint(-3, 4, (n, v)).float(),
    "bfloat16": lambda n, v: (torch.randn(n, v) * 5).bfloat16(),
    "one-hot": lambda n, v: torch.full((n, v), -50.0).index_fill_(1, torch.tensor([v - 1]), 50.0),
    "forbidden": lambda n, v: torch.randn(n, v).masked_fill(torch.arange(v) % 3 == 1, float("-inf")),
}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    vocab_size=st.sampled_from([1, 2, 5, 63, 64, 65, 255, 256, 257, 1000, 20_000, 262_144]),
    kind=st.sampled_from(sorted(ROWS)),
    temperature=st.one_of(st.sampled_from([0.001, 2.0]), st.floats(0.01, 2)),
    top_p=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
)
def test_decoding_cuts_the_smallest_prefix_that_reaches_top_p(backend, seed, vocab_size, kind, temperature, top_p):
    torch.manual_seed(seed)
    logits = ROWS[kind](3, vocab_size)
    temperatures, thresholds = torch.full((3,), temperature), torch.full((3,), top_p)
    scaled = distribution.scale(logits, temperatures)
    rows = distribution.scale_rows(logits, temperatures)
    expected_statistics = distribution.probability_statistics(scaled.double().softmax(-1))
    torch.testing.assert_close(rows.statistics.double(), expected_statistics, rtol=3e-5, atol=3e-6)
    assert rows.logits.equal(scaled)
    shaped = distribution.cut_nucleus(rows, thresholds)
    inside = shaped.equal(scaled) | (shaped == scaled) & scaled.isfinite()
    if kind != "forbidden":
        assert_nucleus(scaled, inside, thresholds)
    torch.testing.assert_close(shaped[~inside], (scaled - distribution.NUCLEUS_PENALTY)[~inside])


def test_nucleus_keeps_the_crossing_token_and_the_first(backend):
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    for top_p, expected in ((0.6, [True, True, False]), (0.4999, [True, False, False]), (0.0, [True, False, False])):
        assert distribution.nucleus_mask(logits, torch.tensor([top_p])).tolist() == [expected]
        assert (cut(logits, torch.ones(1), torch.tensor([top_p])) > -100).tolist() == [expected]


def test_nucleus_prefers_the_lower_token_id_among_equals_whatever_the_vocabulary(backend):
    for vocab_size in (4, 300, 5000):
        shaped = cut(torch.zeros(1, vocab_size), torch.ones(1), torch.tensor([2.5 / vocab_size]))
        assert (shaped[0] > -100).nonzero().squeeze(-1).tolist() == [0, 1, 2]


def test_shaped_logits_give_zero_outside_the_nucleus_and_the_renormalised_rest(backend):
    logits = torch.randn(4, 500) * 3
    temperature, top_p = torch.tensor([0.3, 0.7, 1.0, 1.9]), torch.tensor([0.1, 0.5, 0.9, 0.99])
    scaled = distribution.scale(logits, temperature)
    inside = distribution.nucleus_mask(scaled, top_p)
    shaped = cut(logits, temperature, top_p).softmax(-1)
    assert (shaped[~inside] == 0).all()
    expected = torch.where(inside, scaled.softmax(-1), 0.0)
    torch.testing.assert_close(shaped, expected / expected.sum(-1, keepdim=True))


def test_forbidding_the_whole_nucleus_leaves_the_rest_in_proportion(backend):
    logits = torch.tensor([[8.0, 2.0, 1.0, 0.0]])
    shaped = cut(logits, torch.ones(1), torch.tensor([0.5]))
    masked = shaped.masked_fill(torch.tensor([[True, False, False, False]]), float("-inf"))
    torch.testing.assert_close(masked.softmax(-1)[0, 1:], logits[0, 1:].softmax(-1), rtol=2e-3, atol=1e-4)


def test_logits_that_are_not_numbers_stay_so_and_do_not_crash(backend):
    logits = torch.randn(3, 200)
    logits[1, 7] = float("nan")
    shaped = cut(logits, torch.ones(3), torch.full((3,), 0.5))
    assert shaped[1].isnan().any()
    assert shaped[[0, 2]].isfinite().all()


def test_gradients_reach_temperature_through_shaped_logits(backend):
    temperature = torch.ones(2, requires_grad=True)
    cut(torch.randn(2, 30), temperature, torch.full((2,), 0.5)).sum().backward()
    assert temperature.grad.abs().min() > 0


def test_statistics_are_those_of_the_released_heads():
    probabilities = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    found = distribution.probability_statistics(probabilities)
    values = probabilities.double().numpy()
    expected = [0.4, -(values * np.log(values + 1e-8)).sum(), values.var(ddof=1), 0.96]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("vocab_size", [1, 3])
def test_statistics_of_a_vocabulary_smaller_than_five_are_finite(vocab_size):
    statistics = distribution.probability_statistics(torch.full((2, vocab_size), 1 / vocab_size))
    assert torch.isfinite(statistics).all()
    torch.testing.assert_close(statistics[:, 3], torch.ones(2))


def test_scale_never_divides_by_less_than_the_minimum():
    logits = torch.tensor([[3.0, -50.0]])
    assert distribution.scale(logits, torch.tensor([1e-30]), 0.01).tolist() == [[300.0, -5000.0]]


def test_soft_nucleus_is_one_inside_and_decays_with_the_excess():
    probabilities = torch.tensor([[0.1, 0.6, 0.3]])
    log_weights = distribution.soft_nucleus_log_weights(probabilities, torch.tensor([0.7]), decay=30.0)
    expected = -30 * torch.tensor([[0.3, 0.0, 0.2]])  # cumulative sums 0.6, 0.9, 1.0
    torch.testing.assert_close(log_weights, expected, rtol=1e-4, atol=1e-5)


def test_exclusive_soft_nucleus_spares_the_token_that_crosses():
    probabilities = torch.tensor([[0.1, 0.6, 0.3]])
    log_weights = distribution.soft_nucleus_log_weights(probabilities, torch.tensor([0.7]), exclusive=True)
    expected = -30 * torch.tensor([[0.2, 0.0, 0.0]])  # sums before each token 0.9, 0, 0.6
    torch.testing.assert_close(log_weights, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("top_p", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_exclusive_soft_nucleus_becomes_the_hard_one_as_it_decays_faster(top_p):
    logits = torch.randn(20, 300, dtype=torch.float64) * 3
    threshold = torch.full((20,), top_p, dtype=torch.float64)
    log_weights = distribution.soft_nucleus_log_weights(logits.softmax(-1), threshold, decay=1e9, exclusive=True)
    assert (log_weights > -0.5).equal(distribution.nucleus_mask(logits, threshold))


def test_half_precision_and_non_contiguous_inputs_give_float32(backend):
    for dtype in (torch.bfloat16, torch.float16):
        logits = torch.randn(3, 40, 2).to(dtype).transpose(1, 2)
        temperature, top_p = torch.rand(2, 3).T + 0.5, torch.rand(2, 3).T
        shaped = cut(logits, temperature, top_p)
        assert shaped.dtype == torch.float32
        torch.testing.assert_close(shaped, cut(logits.contiguous(), temperature.contiguous(), top_p.contiguous()))


def test_no_rows_at_all(backend):
    assert distribution.nucleus_mask(torch.zeros(0, 7), torch.zeros(0)).shape == (0, 7)
    assert cut(torch.zeros(0, 7), torch.zeros(0), torch.zeros(0)).shape == (0, 7)
