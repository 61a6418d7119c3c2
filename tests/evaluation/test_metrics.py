"""Metrics against hand-computed values, enumeration and NLTK's published definition."""

import itertools
import math

import numpy as np
import pytest

from autodeco.errors import DataError
from autodeco.evaluation.diversity import distinct_n, self_bleu
from autodeco.evaluation.metrics import (
    error_counts,
    majority_vote,
    pass_at_k,
    problem_metrics,
    sizes_of_k,
    summarise,
)
from autodeco.statistics import wilson_interval

from .rows import frame, row, simulated


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (5, 0), (5, 2), (6, 5), (7, 7)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(n, c):
    outcomes = [True] * c + [False] * (n - c)
    for k in range(1, n + 1):
        subsets = list(itertools.combinations(outcomes, k))
        expected = sum(any(subset) for subset in subsets) / len(subsets)
        assert pass_at_k(n, c, k) == pytest.approx(expected)
    assert np.isnan(pass_at_k(n, c, n + 1))


def test_pass_at_k_of_many_samples():
    # 1 - C(n-c, k)/C(n, k) in integers of any size; in floats both binomials overflow.
    expected = 1 - math.comb(2000 - 3, 900) / math.comb(2000, 900)
    assert pass_at_k(2000, 3, 900) == pytest.approx(expected, rel=1e-12)
    assert pass_at_k(np.array([128, 128]), np.array([1, 128]), 64).tolist() == pytest.approx([0.5, 1.0])
    with pytest.raises(ValueError, match="k >= 1"):
        pass_at_k(4, 5, 1)


def test_majority_vote():
    assert majority_vote(["2", "2", "3"], [True, True, False]) == 1
    assert majority_vote(["2", "3", "3"], [True, False, False]) == 0
    assert majority_vote(["2", "3", "4"], [True, False, False]) == pytest.approx(1 / 3)  # each tied answer wins alike
    assert majority_vote(["1 / 2", "1/2", "3", None], [True, True, False, False]) == 1
    assert majority_vote([None, None], [False, False]) is None


def test_distinct_n():
    texts = ["a b a", "a b"]
    assert distinct_n(texts, 1) == 2 / 5
    assert distinct_n(texts, 2) == 2 / 3  # "a b" twice, "b a" once; none across texts
    assert distinct_n(texts, 3) == 1
    assert distinct_n(["a"], 2) is None


def brute_force_self_bleu(texts):
    scores = []
    for index, text in enumerate(texts):
        words = text.split()
        references = [other.split() for at, other in enumerate(texts) if at != index]
        logs = []
        for n in range(1, 5):
            grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
            if not grams:
                continue
            matched = 0
            for gram in set(grams):
                most = max(
                    sum(tuple(other[at : at + n]) == gram for at in range(len(other) - n + 1)) for other in references
                )
                matched += min(grams.count(gram), most)
            logs.append(math.log((matched or 0.1) / len(grams)))
        closest = min((len(other) for other in references), key=lambda length: (abs(length - len(words)), length))
        scores.append(math.exp(min(0.0, 1 - closest / len(words)) + sum(logs) / len(logs)))
    return sum(scores) / len(scores)


def test_self_bleu_is_that_of_its_definition():
    draws = np.random.default_rng(0)
    for _ in range(30):
        texts = [" ".join(draws.choice(list("abcd"), draws.integers(1, 12))) for _ in range(draws.integers(2, 7))]
        assert self_bleu(texts) == pytest.approx(brute_force_self_bleu(texts))


def test_self_bleu_is_nltks():
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smooth = bleu.SmoothingFunction(epsilon=0.1).method1
    draws = np.random.default_rng(1)
    for _ in range(10):
        texts = [list(draws.choice(list("abcde"), draws.integers(4, 15))) for _ in range(5)]
        scores = [
            bleu.sentence_bleu([*texts[:at], *texts[at + 1 :]], text, smoothing_function=smooth)
            for at, text in enumerate(texts)
        ]
        assert self_bleu([" ".join(text) for text in texts]) == pytest.approx(sum(scores) / 5)


def test_self_bleu_of_equal_and_of_unlike_texts():
    assert self_bleu(["a b c d e"] * 4) == pytest.approx(1)
    assert self_bleu(["42", "42"]) == pytest.approx(1)
    assert self_bleu(["", ""]) == pytest.approx(1)
    assert self_bleu(["a b c d e f g h", "i j k l m n o p"]) < 0.05
    assert self_bleu(["one text"]) is None


def test_metrics_of_a_problem_leave_out_and_count_failed_samples():
    rows = [
        row(sample=0, correct=True, tokens=4, answer="2", details='{"strict": [true, false], "loose": 1}'),
        row(sample=1, correct=False, tokens=6, finish="length", answer="3", details='{"strict": [true], "loose": 0}'),
        row(sample=2, correct=None, error="ValueError: x", tokens=1000),
        row(sample=3, correct=None, error="ValueError: x"),
        row(sample=4, correct=None, error="KeyError: y"),
        row(sample=0, strategy="greedy", correct=True, entropy=None),
    ]
    table = problem_metrics(frame(rows))
    own = table.loc[("sums", "default", "p0")]
    assert (own["samples"], own["right"], own["pass@1"], own["pass@2"]) == (2, 1, 0.5, 1.0)
    assert (own["tokens"], own["unfinished"], own["majority"]) == (5, 0.5, 0.5)
    assert own["details/strict"] == pytest.approx(0.75)
    assert own["details/loose"] == 0.5
    greedy = table.loc[("sums", "greedy", "p0")]
    assert greedy["pass@1"] == 1
    assert np.isnan([greedy["pass@2"], greedy["entropy"], greedy["self_bleu"]]).all()
    (count,) = error_counts(frame(rows))
    assert (count.strategy, count.errors, count.samples, count.most_frequent) == ("default", 3, 5, "ValueError: x")
    with pytest.raises(DataError, match="none of the 1 samples could be verified"):
        problem_metrics(frame(rows[2:3]))
    with pytest.raises(DataError, match="hold 2"):
        problem_metrics(frame([*rows, row(model="other")]))
    with pytest.raises(DataError, match="not JSON"):
        problem_metrics(frame([row(details="{")]))


def test_k_doubles_up_to_the_number_of_samples():
    assert sizes_of_k(1) == [1]
    assert sizes_of_k(16) == [1, 2, 4, 8, 16]
    assert sizes_of_k(20) == [1, 2, 4, 8, 16]


def test_a_problem_without_an_answer_loses_its_vote_unless_nobody_votes():
    answered = [row(problem="p0", sample=0), row(problem="p1", sample=0, correct=False, answer=None)]
    programs = [row(task="programs", answer=None), row(task="programs", problem="p1", answer=None)]
    majority = problem_metrics(frame(answered + programs))["majority"]
    assert majority["sums"].tolist() == [1, 0]
    assert majority["programs"].isna().all()


def test_lists_in_details_are_pooled_over_a_tasks_problems():
    one = row(problem="p0", details='{"instruction": [false]}')
    three = row(problem="p1", details='{"instruction": [true, true, false]}')
    table = problem_metrics(frame([one, three]))
    assert table["details/instruction"].mean() == pytest.approx(2 / 4)
    alike = [row(problem=f"p{n}", details=f'{{"instruction": {[1] * (n + 1)}}}') for n in range(3)]
    assert problem_metrics(frame(alike))["details/instruction"].tolist() == [1, 1, 1]
    assert not [name for name in table.columns if name.startswith("length")]


@pytest.mark.parametrize("correct", [True, False])
def test_an_interval_has_a_width_where_all_problems_are_alike(correct):
    table = problem_metrics(frame([row(problem=f"p{number}", correct=correct) for number in range(5)]))
    found = summarise(table, "default", ["sums"]).metrics["pass@1"]
    assert (found.low, found.high) == wilson_interval(5 * correct, 5)
    more = [
        row(task=task, problem=f"p{n}", correct=correct) for task, count in (("a", 2), ("b", 98)) for n in range(count)
    ]
    both = summarise(problem_metrics(frame(more)), "default", ["a", "b"]).metrics["pass@1"]
    assert (both.low, both.high) == wilson_interval(8 * correct, 8)  # 4 / (1/2 + 1/98)


def test_summary_weighs_tasks_alike():
    rows = simulated({"default": 0.3}, problems=30, samples=4, tasks=("sums",))
    rows += simulated({"default": 0.9}, problems=10, samples=4, tasks=("words",), seed=1)
    table = problem_metrics(frame(rows))
    alone = [summarise(table, "default", [task]).metrics["pass@1"] for task in ("sums", "words")]
    both = summarise(table, "default", ["sums", "words"])
    assert both.metrics["pass@1"].value == pytest.approx((alone[0].value + alone[1].value) / 2)
    assert both.problems == 40
    assert both.samples == (4, 4)
    widths = [estimate.high - estimate.low for estimate in alone]
    combined = both.metrics["pass@1"].high - both.metrics["pass@1"].low
    assert combined == pytest.approx(math.hypot(*widths) / 2, rel=0.15)
    with pytest.raises(DataError, match=r"no verified samples of greedy on sums.*default on sums"):
        summarise(table, "greedy", ["sums"])


def test_one_problem_has_no_interval():
    estimate = summarise(problem_metrics(frame([row(), row(sample=1)])), "default", ["sums"]).metrics["pass@1"]
    assert (estimate.value, estimate.low, estimate.high, estimate.problems) == (1.0, None, None, 1)
