import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autodeco import distribution


def reference_nucleus(probabilities: np.ndarray, top_p: float) -> np.ndarray:
    """The definition, in float64: walk down a stable descending order until the sum reaches top_p."""
    order = np.argsort(-probabilities, kind="stable")
    mask = np.zeros(len(probabilities), dtype=bool)
    mass = 0.0
    for token in order:
        if mass >= top_p and mask.any():
            break
        mask[token] = True
        mass += float(probabilities[token])
    return mask if top_p < 1 else np.ones_like(mask)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    vocab_size=st.sampled_from([1, 2, 5, 255, 256, 257, 1000]),
    sharpness=st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    top_p=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
)
def test_nucleus_is_the_smallest_prefix_that_reaches_top_p(seed, vocab_size, sharpness, top_p):
    logits = torch.randn(3, vocab_size, generator=torch.Generator().manual_seed(seed)) * sharpness
    probabilities = logits.softmax(-1)
    mask = distribution.nucleus_mask(probabilities, torch.full((3,), top_p))
    for row, row_mask in zip(probabilities, mask, strict=True):
        expected = reference_nucleus(row.double().numpy(), float(torch.tensor(top_p)))
        if (row_mask.numpy() != expected).any():  # allowed only where two sums differ by less than 1e-6
            sums = np.sort(row.double().numpy())[::-1].cumsum()
            assert np.abs(sums - top_p).min() < 1e-6


def test_nucleus_keeps_the_crossing_token_and_the_first():
    probabilities = torch.tensor([[0.5, 0.3, 0.2]])
    assert distribution.nucleus_mask(probabilities, torch.tensor([0.6])).tolist() == [[True, True, False]]
    assert distribution.nucleus_mask(probabilities, torch.tensor([0.5])).tolist() == [[True, False, False]]
    assert distribution.nucleus_mask(probabilities, torch.tensor([0.0])).tolist() == [[True, False, False]]


def test_nucleus_prefers_the_lower_token_id_among_equals_whatever_the_vocabulary():
    for vocab_size in (4, 300, 5000):
        probabilities = torch.full((1, vocab_size), 1 / vocab_size)
        mask = distribution.nucleus_mask(probabilities, torch.tensor([2.5 / vocab_size]))
        assert mask[0].nonzero().squeeze(-1).tolist() == [0, 1, 2]


def test_shaped_logits_give_zero_outside_the_nucleus_and_the_renormalised_rest():
    logits = torch.randn(4, 500) * 3
    scaled = distribution.scale(logits, torch.tensor([0.3, 0.7, 1.0, 1.9]))
    probabilities = scaled.softmax(-1)
    top_p = torch.tensor([0.1, 0.5, 0.9, 0.99])
    shaped = distribution.cut_nucleus(scaled, probabilities, top_p).softmax(-1)
    inside = distribution.nucleus_mask(probabilities, top_p)
    assert (shaped[~inside] == 0).all()
    expected = torch.where(inside, probabilities, 0.0)
    torch.testing.assert_close(shaped, expected / expected.sum(-1, keepdim=True))


def test_forbidding_the_whole_nucleus_leaves_the_rest_in_proportion():
    logits = torch.tensor([[8.0, 2.0, 1.0, 0.0]])
    probabilities = logits.softmax(-1)
    shaped = distribution.cut_nucleus(logits, probabilities, torch.tensor([0.5]))
    masked = shaped.masked_fill(torch.tensor([[True, False, False, False]]), float("-inf"))
    torch.testing.assert_close(masked.softmax(-1)[0, 1:], logits[0, 1:].softmax(-1), rtol=2e-3, atol=1e-4)


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


def test_half_precision_and_non_contiguous_inputs_give_float32():
    logits = torch.randn(3, 40, 2).bfloat16().transpose(1, 2)
    scaled = distribution.scale(logits, torch.full((3, 2), 0.5))
    assert scaled.dtype == torch.float32
    mask = distribution.nucleus_mask(scaled.softmax(-1), torch.full((3, 2), 0.5))
    assert mask.shape == (3, 2, 40)


def test_no_rows_at_all():
    assert distribution.nucleus_mask(torch.zeros(0, 7), torch.zeros(0)).shape == (0, 7)
