"""Paired comparison: coverage and false alarms by simulation, variances by formula."""

import math

import numpy as np
import pytest
from scipy import stats

from autodeco.errors import DataError
from autodeco.evaluation.comparison import compare, paired_counts
from autodeco.evaluation.paired import PairedCounts, hierarchical_bootstrap, sign_flip_test
from autodeco.evaluation.power import power_note, variance_of
from autodeco.statistics import percentile_interval

from .rows import frame, row, simulated


def drawn(draws, problems, samples, spread, effect=0.05):
    """Counts of two strategies whose difference is ``effect`` on average and varies with ``spread``."""
    chance = draws.uniform(0.3, 0.6, problems)
    difference = effect + spread * draws.uniform(-math.sqrt(3), math.sqrt(3), problems)
    right = np.stack([draws.binomial(samples, chance + difference), draws.binomial(samples, chance)], axis=1)
    return PairedCounts(right, np.full((problems, 2), samples), np.zeros(problems, dtype=np.int64))


@pytest.mark.parametrize(
    ("problems", "samples", "spread"),
    [(40, 8, 0.0), (40, 8, 0.1), (12, 16, 0.15), (60, 1, 0.1), (30, 2, 0.1)],
    ids=["noise of samples", "both", "few problems", "one sample", "two samples"],
)
def test_interval_covers_as_often_as_it_says(problems, samples, spread):
    draws = np.random.default_rng(0)
    covered = 0
    for trial in range(600):
        found = hierarchical_bootstrap(drawn(draws, problems, samples, spread), resamples=600, seed=trial)
        low, high = percentile_interval(found, problems - 1)
        covered += low <= 0.05 <= high
    assert 0.92 <= covered / 600 <= 0.98


def coupled(draws, problems, samples, effect=0.05):
    """Counts of pairs that are both right or both wrong but for a few, as same seeds make them."""
    chance = draws.uniform(0.3, 0.6, problems)[:, None] + draws.uniform(-0.3, 0.3, (problems, samples))
    uniform = draws.random((problems, samples))
    first, second = uniform < chance + effect, uniform < chance
    right = np.stack([first.sum(1), second.sum(1)], axis=1)
    strata = np.zeros(problems, dtype=np.int64)
    return PairedCounts(right, np.full((problems, 2), samples), strata, (first & second).sum(1))


@pytest.mark.parametrize(("problems", "samples"), [(150, 8), (300, 2)])
def test_interval_of_pairs_covers_as_often_as_it_says_and_is_narrower(problems, samples):
    draws = np.random.default_rng(0)
    covered, widths, apart = 0, [], []
    for trial in range(250):
        counts = coupled(draws, problems, samples)
        low, high = percentile_interval(hierarchical_bootstrap(counts, resamples=600, seed=trial), problems - 1)
        covered += low <= 0.05 <= high
        widths.append(high - low)
        if trial < 20:
            alone = PairedCounts(counts.right, counts.samples, counts.strata)
            apart.append(np.ptp(percentile_interval(hierarchical_bootstrap(alone, resamples=600), problems - 1)))
    assert 0.91 <= covered / 250 <= 0.985
    assert np.mean(widths) < 0.6 * np.mean(apart)


def test_noise_of_pairs_is_the_variance_of_their_differences():
    draws = np.random.default_rng(0)
    first, second = draws.random((6, 5)) < 0.6, draws.random((6, 5)) < 0.5
    right, five = np.stack([first.sum(1), second.sum(1)], 1), np.full((6, 2), 5)
    counts = PairedCounts(right, five, np.zeros(6, dtype=np.int64), (first & second).sum(1))
    expected = (first.astype(float) - second).var(axis=1, ddof=1)
    np.testing.assert_allclose(counts.noise(), expected / 5)
    np.testing.assert_allclose(counts.noise(samples=20), expected / 20)


def test_sign_flips_raise_false_alarms_as_often_as_they_say():
    draws = np.random.default_rng(0)
    p_values = [sign_flip_test(drawn(draws, 15, 4, 0.0, effect=0), resamples=400, seed=n) for n in range(400)]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08
    assert sign_flip_test(drawn(draws, 60, 16, 0.0, effect=0.2), resamples=1000) < 0.01
    same = PairedCounts(np.full((5, 2), 3), np.full((5, 2), 4), np.zeros(5, dtype=np.int64))
    assert sign_flip_test(same) == 1


def test_interval_is_students_where_problems_are_all_the_variance():
    samples = 1_000_000
    right = np.random.default_rng(0).integers(0, samples, size=(10, 2))
    counts = PairedCounts(right, np.full((10, 2), samples), np.zeros(10, dtype=np.int64))
    low, high = percentile_interval(hierarchical_bootstrap(counts, 20_000), 9)
    half_width = stats.t.ppf(0.975, 9) * counts.differences.std(ddof=1) / math.sqrt(10)
    assert (high - low) / 2 == pytest.approx(half_width, rel=0.05)


def test_variance_is_what_repeating_the_experiment_shows():
    draws = np.random.default_rng(0)
    trials = [drawn(draws, 50, 32, 0.1) for _ in range(500)]
    spread = np.var([counts.weights @ counts.differences for counts in trials], ddof=1)
    variances = [variance_of(counts) for counts in trials]
    assert np.mean([variance.total for variance in variances]) == pytest.approx(spread, rel=0.12)
    assert np.mean([variance.between for variance in variances]) == pytest.approx(0.01 / 50, rel=0.1)


def test_power_note_keeps_its_promise():
    counts = drawn(np.random.default_rng(0), 200, 4, 0.02)
    difference = float(counts.weights @ counts.differences)
    note = power_note(counts, difference, half_width=0.1, target=0.03)
    quantile = stats.t.ppf(0.975, 199)
    assert note.samples_for_target > 4
    reached = quantile * math.sqrt(variance_of(counts, samples=note.samples_for_target).total)
    assert reached <= 0.03 < quantile * math.sqrt(variance_of(counts, samples=note.samples_for_target - 1).total)
    shrunk = quantile * math.sqrt(note.variance.total * 200 / note.problems_for_target)
    assert 0.0299 <= shrunk <= 0.03


def test_power_note_says_never_where_problems_differ_too_much():
    right = np.array([[8, 0], [0, 8]] * 10)
    counts = PairedCounts(right, np.full((20, 2), 8), np.zeros(20, dtype=np.int64))
    note = power_note(counts, 0.0, half_width=0.47, target=0.03)
    assert note.samples_for_target is None
    assert note.samples_for_difference is note.problems_for_difference is None
    assert note.problems_for_target == math.ceil((2.093 / 0.03) ** 2 * right.shape[0] / 19)


@pytest.mark.parametrize(("samples", "said"), [(1, "1 sample of each, which"), (2, "2 and 1 samples of each, which")])
def test_one_sample_cannot_tell_what_more_would_do(samples, said):
    rows = simulated({"autodeco": 0.6}, problems=30, samples=samples)
    rows += simulated({"default": 0.4, "greedy": 0.4}, problems=30, samples=1)
    note = compare(frame(rows), "autodeco", "default").power_sentences()
    assert f"{said} cannot tell how much more samples would narrow it" in note
    assert "no number of samples" not in note
    assert "problems with as many samples as now" in note
    # Greedy decoding has one sample and no noise.
    assert ("cannot tell" in compare(frame(rows), "autodeco", "greedy").power_sentences()) == (samples == 1)


def test_compare_pairs_problems_and_leaves_failed_samples_out():
    rows = simulated({"autodeco": 0.6, "default": 0.4}, problems=30, samples=8)
    rows += [row(strategy="autodeco", problem="only here")]
    rows += [row(strategy="default", problem="p0", sample=99, correct=None, error="x")]
    found = compare(frame(rows), "autodeco", "default")
    assert (found.problems, found.left_out, found.samples) == (30, 1, (8, 8))
    assert found.low < found.difference < found.high
    assert found.low <= 0.2 <= found.high
    assert found.p_value < 0.01
    opposite = compare(frame(rows), "default", "autodeco")
    assert opposite.difference == pytest.approx(-found.difference)
    again = compare(frame(rows), "autodeco", "default")
    assert again == found
    assert "It leaves out 0." in found.power_sentences()


def test_compare_weighs_tasks_alike():
    rows = simulated({"autodeco": 0.9, "default": 0.1}, problems=4, samples=4, spread=0, tasks=("small",))
    rows += simulated({"autodeco": 0.5, "default": 0.5}, problems=40, samples=4, tasks=("large",))
    both = compare(frame(rows), "autodeco", "default")
    alone = [compare(frame(rows), "autodeco", "default", [task]).difference for task in ("large", "small")]
    assert both.tasks == ("large", "small")
    assert both.difference == pytest.approx(sum(alone) / 2)


def test_a_task_with_a_single_problem_in_common_does_not_hide_the_others():
    rows = simulated({"autodeco": 0.6, "default": 0.4}, problems=20, samples=2)
    rows += simulated({"autodeco": 0.6, "default": 0.4}, problems=1, samples=2, tasks=("small",))
    assert compare(frame(rows), "autodeco", "default").tasks == ("sums",)
    with pytest.raises(DataError, match="1 verified problems in common on small"):
        compare(frame(rows), "autodeco", "default", ["small"])


def test_greedy_has_no_noise_of_its_own():
    rows = simulated({"default": 0.5}, problems=20, samples=8)
    rows += [row(strategy="greedy", problem=f"p{n}", correct=n % 2 == 0) for n in range(20)]
    counts, _, _ = paired_counts(frame(rows), "greedy", "default")
    assert not counts.paired.any()
    assert counts.samples[0].tolist() == [1, 8]
    assert (counts.scales[:, 0] == 0).all()
    assert variance_of(counts).within > 0


def test_samples_are_paired_by_number_and_seed():
    given = {"a": [1, 1, 0, 0], "b": [1, 0, 0, 1, 1]}
    rows = [
        row(strategy=name, problem=problem, sample=n, seed=n, correct=bool(right))
        for problem in ("p0", "p1")
        for name, answers in given.items()
        for n, right in enumerate(answers)
    ]
    rows += [row(strategy=name, problem="other seeds", seed=name == "a") for name in given]
    counts, _, _ = paired_counts(frame(rows), "a", "b")
    assert counts.right.tolist() == [[1, 1], [2, 2], [2, 2]]
    assert counts.samples.tolist() == [[1, 1], [4, 4], [4, 4]]  # of b's fifth there is no other
    assert counts.both.tolist() == [-1, 1, 1]


def test_what_cannot_be_compared():
    rows = simulated({"autodeco": 0.6, "default": 0.4}, problems=3, samples=2)
    with pytest.raises(DataError, match=r"no strategy 'autodec'.*'autodeco'"):
        compare(frame(rows), "autodec", "default")
    with pytest.raises(DataError, match="hold 2"):
        compare(frame([*rows, row(model="other")]), "autodeco", "default")
    apart = [row(strategy="a", problem="1"), row(strategy="b", problem="2")]
    with pytest.raises(DataError, match="0 verified problems in common on any task"):
        compare(frame(apart), "a", "b")
    with pytest.raises(DataError, match="0 verified problems in common on words"):
        compare(frame(rows), "autodeco", "default", ["words"])
