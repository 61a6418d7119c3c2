import pytest

from autodeco.statistics import bootstrap_over_problems, wilson_interval


def test_wilson_interval_matches_published_values():
    low, high = wilson_interval(15, 148)  # Newcombe (1998), method 3
    assert (low, high) == (pytest.approx(0.0624, abs=1e-4), pytest.approx(0.1605, abs=1e-4))
    assert wilson_interval(0, 20)[0] == 0
    for bad in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="an interval needs"):
            wilson_interval(*bad)


def test_bootstrap_is_wider_when_samples_of_a_problem_agree():
    agreeing = [[1.0] * 10, [0.0] * 10] * 10
    low, high = bootstrap_over_problems(agreeing)
    independent = wilson_interval(100, 200)
    assert high - low > 2 * (independent[1] - independent[0])
    with pytest.raises(ValueError, match="at least one problem"):
        bootstrap_over_problems([])
