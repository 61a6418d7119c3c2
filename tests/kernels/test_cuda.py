"""The Triton kernels against their definitions in float64: on a CUDA device, or in Triton's interpreter."""

import os
import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported

from autodeco import distribution  # noqa: E402
from autodeco.kernels import cuda  # noqa: E402

if cuda.triton is None:
    _MISSING = "Triton is not installed"
elif DEVICE == "cpu" and not cuda._INTERPRETED:
    _MISSING = "no CUDA device, and Triton was imported before TRITON_INTERPRET=1 was set"
else:
    _MISSING = ""
pytestmark = pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # NumPy, in the interpreter
needs_triton = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)

PENALTY = distribution.NUCLEUS_PENALTY
ROWS = {
    "random": lambda n, v: torch.randn(n, v) * 3,
    "sharp": lambda n, v: torch.randn(n, v) * 30,
    "flat": lambda n, v: torch.randn(n, v) * 0.01 - 7,
    "uniform": lambda n, v: torch.zeros(n, v),
    "ties": lambda n, v: torch.randint(-3, 4, (n, v)).float(),
    "signed zeros": lambda n, v: torch.randint(-1, 2, (n, v)).float() * 0.0,
    "bfloat16": lambda n, v: (torch.randn(n, v) * 5).bfloat16(),
    "float16": lambda n, v: (torch.randn(n, v) * 5).half(),
    "one-hot": lambda n, v: torch.full((n, v), -50.0).index_fill_(1, torch.tensor([v - 1]), 50.0),
    "forbidden": lambda n, v: torch.randn(n, v).masked_fill(torch.arange(v) % 3 == 1, float("-inf")),
    "large": lambda n, v: torch.randn(n, v) * 1000 + 20_000,
}


def shape(logits, temperature, top_p, *, statistics=False):
    """What the kernels make of the rows: scaled logits, the same with the nucleus cut, statistics; on the CPU."""
    kernels = cuda.Kernels()
    result = kernels.scale(logits.to(DEVICE), temperature.to(DEVICE), statistics=statistics)
    scaled = result.rows.scaled.cpu().clone()
    kernels.cut(result.rows, top_p.to(DEVICE), PENALTY)
    return scaled, result.rows.scaled.cpu(), result.statistics.cpu() if statistics else None


def expected_nucleus(scaled: np.ndarray, top_p: float) -> tuple[np.ndarray, np.ndarray]:
    """The definition, by a stable sort in float64: the mask, and the sum before each token in descending order."""
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-scaled, kind="stable")
    before = np.concatenate([[0.0], probabilities[order].cumsum()[:-1]])
    mask = np.zeros(len(scaled), dtype=bool)
    mask[order] = (before < top_p) | (np.arange(len(scaled)) == 0) | (top_p >= 1)
    return mask, before


def assert_cut(scaled: torch.Tensor, shaped: torch.Tensor, top_p: torch.Tensor) -> None:
    """The expected prefix, or one that ends where the sum is within 1e-6 of top-p; the penalty on all the rest."""
    for row, cut, threshold in zip(scaled, shaped, top_p.tolist(), strict=True):
        inside = ((cut == row) & row.isfinite()).numpy()
        finite = row.isfinite().numpy()
        expected, before = expected_nucleus(row.double().numpy(), threshold)
        kept, wanted = int(inside.sum()), int((expected & finite).sum())
        if kept != wanted:
            assert np.abs(before[min(kept, wanted) : max(kept, wanted)] - threshold).max() < 1e-6
            order = np.argsort(-row.double().numpy(), kind="stable")
            expected = np.zeros_like(expected)
            expected[order[:kept]] = True
        assert (inside == (expected & finite)).all()
        outside = torch.from_numpy(~inside)
        assert cut[outside].equal((row - PENALTY)[outside])


@needs_triton
@settings(max_examples=70, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    vocab_size=st.sampled_from([1, 2, 5, 63, 64, 65, 1000, 5000]),
    kind=st.sampled_from(sorted(ROWS)),
    temperature=st.one_of(st.sampled_from([0.01, 1.0, 2.0]), st.floats(0.01, 2)),
    top_p=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
)
@example(seed=0, vocab_size=50_000, kind="random", temperature=1.7, top_p=0.97)
@example(seed=1, vocab_size=50_000, kind="bfloat16", temperature=0.6, top_p=0.95)
@example(seed=2, vocab_size=50_000, kind="uniform", temperature=1.0, top_p=0.9)
def test_scale_and_cut_are_those_of_a_float64_sort(seed, vocab_size, kind, temperature, top_p):
    torch.manual_seed(seed)
    logits = ROWS[kind](2, vocab_size)
    temperatures = torch.tensor([temperature, 2.01 - temperature])
    thresholds = torch.tensor([top_p, 1 - top_p])
    scaled, shaped, statistics = shape(logits, temperatures, thresholds, statistics=True)
    assert scaled.equal(logits.float() / temperatures.unsqueeze(-1))
    expected = distribution.probability_statistics(scaled.double().softmax(-1))
    torch.testing.assert_close(statistics.double(), expected, rtol=3e-5, atol=3e-6)
    assert_cut(scaled, shaped, thresholds)


@needs_triton
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), vocab_size=st.sampled_from([5, 65, 1000]), values=st.integers(1, 4))
def test_a_threshold_just_above_or_below_a_partial_sum_decides_about_one_token(seed, vocab_size, values):
    torch.manual_seed(seed)
    logits = torch.randint(0, values, (1, vocab_size)).float()
    _, before = expected_nucleus(logits[0].double().numpy(), 0.5)
    at = 1 + seed % (vocab_size - 1)  # the token in descending order at which the sum crosses
    for nudge, kept in ((-4e-6, at), (4e-6, at + 1)):
        top_p = torch.tensor([before[at] + nudge], dtype=torch.float32)
        scaled, shaped, _ = shape(logits, torch.ones(1), top_p)
        assert int((shaped == scaled).sum()) == kept
        assert_cut(scaled, shaped, top_p)


@needs_triton
def test_of_equal_logits_the_lower_token_id_stays_whatever_the_vocabulary():
    for vocab_size in (4, 300, 5000):
        for logits in (torch.zeros(1, vocab_size), -torch.zeros(1, vocab_size), torch.full((1, vocab_size), -3.0)):
            _, shaped, _ = shape(logits, torch.ones(1), torch.tensor([2.5 / vocab_size]))
            assert (shaped[0] > -100).nonzero().squeeze(-1).tolist() == [0, 1, 2]


@needs_triton
def test_the_crossing_token_and_the_most_likely_one_stay():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    for top_p, kept in ((0.6, [1, 2]), (0.4999, [1]), (0.0, [1]), (-1000.0, [1])):
        _, shaped, _ = shape(logits, torch.ones(1), torch.tensor([top_p]))
        assert (shaped[0] > -100).nonzero().squeeze(-1).tolist() == kept


@needs_triton
@pytest.mark.parametrize("top_p", [1.0, 1.5, float("nan")])
def test_a_top_p_of_one_keeps_tokens_too_unlikely_to_count(top_p):
    scaled, shaped, _ = shape(torch.tensor([[0.0, 800.0, 300.0]]), torch.ones(1), torch.tensor([top_p]))
    assert shaped.equal(scaled)


@needs_triton
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_without_a_distribution_is_left_uncut_and_its_statistics_are_not_numbers(value):
    logits = torch.randn(3, 200)
    logits[1, 7] = value
    scaled, shaped, statistics = shape(logits, torch.ones(3), torch.full((3,), 0.5), statistics=True)
    torch.testing.assert_close(shaped[1], scaled[1], rtol=0, atol=0, equal_nan=True)
    assert shaped[1].isnan().any() or value == float("inf")
    assert statistics[1].isnan().any()
    assert_cut(scaled[[0, 2]], shaped[[0, 2]], torch.full((2,), 0.5))
    _, forbidden, _ = shape(torch.full((1, 10), float("-inf")), torch.ones(1), torch.full((1,), 0.5))
    assert (forbidden == float("-inf")).all()


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_strides_of_every_kind_give_what_contiguous_rows_do(dtype):
    wide = (torch.randn(3, 2, 90) * 4).to(dtype)
    temperature, top_p = torch.rand(2, 3).T[:, 0] + 0.5, torch.rand(3, 2)[:, 0]
    for logits in (wide[:, 1], wide[:, 0, 5:70], wide[:, 0, ::2], wide[0].T[:3], wide[:1, 0].expand(3, -1)):
        strided = shape(logits, temperature, top_p, statistics=True)
        plain = shape(logits.contiguous(), temperature.contiguous(), top_p.contiguous(), statistics=True)
        assert all(a.equal(b) for a, b in zip(strided, plain, strict=True))


@needs_triton
def test_a_row_comes_out_the_same_alone_and_among_others():
    logits, temperature, top_p = torch.randn(4, 3000) * 2, torch.rand(4) + 0.5, torch.rand(4)
    together = shape(logits, temperature, top_p, statistics=True)
    again = shape(logits, temperature, top_p, statistics=True)
    alone = [shape(logits[i : i + 1], temperature[i : i + 1], top_p[i : i + 1], statistics=True) for i in range(4)]
    for part in range(3):
        assert together[part].equal(again[part])
        assert together[part].equal(torch.cat([row[part] for row in alone]))


@needs_triton
def test_no_rows_at_all():
    scaled, shaped, statistics = shape(torch.zeros(0, 7), torch.zeros(0), torch.zeros(0), statistics=True)
    assert scaled.shape == shaped.shape == (0, 7)
    assert statistics.shape == (0, 4)


@needs_triton
def test_takes_what_it_computes_and_nothing_else():
    row = torch.zeros(1, 5, device=DEVICE)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert cuda.can_take(row.to(dtype), row[0])
    assert not cuda.can_take(row.double(), row[0])
    assert not cuda.can_take(row, row[0].double())
    assert not cuda.can_take(row[:0], row[0])
    assert not cuda.can_take(row, row[0].to("meta"))
    trained = row.clone().requires_grad_()
    assert not cuda.can_take(trained, row[0])
    assert not cuda.can_take(row, trained[0])
    with torch.no_grad():
        assert cuda.can_take(trained, row[0])


@pytest.fixture
def fresh(monkeypatch):
    """A loader that has not loaded anything yet."""
    monkeypatch.delenv("AUTODECO_KERNELS", raising=False)
    cuda.load.cache_clear()
    yield monkeypatch
    cuda.load.cache_clear()


@needs_triton
def test_loaded_once(fresh):
    assert isinstance(cuda.load(), cuda.Kernels)
    assert cuda.load() is cuda.load()


@needs_triton
def test_kernels_that_cannot_be_compiled_are_done_without_after_one_warning(fresh):
    class Broken:
        def __getitem__(self, grid):
            raise RuntimeError("no ptxas")

    fresh.setattr(cuda, "_cut_kernel", Broken())
    with pytest.warns(RuntimeWarning, match=r"RuntimeError: no ptxas.*PyTorch is used instead"):
        assert cuda.load() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cuda.load() is None


@pytest.mark.parametrize("reason", ["switched off", "no triton"])
def test_done_without_in_silence(fresh, reason):
    if reason == "switched off":
        fresh.setenv("AUTODECO_KERNELS", "0")
    else:
        fresh.setattr(cuda, "triton", None)
        fresh.setattr(cuda, "_INTERPRETED", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cuda.load() is None
