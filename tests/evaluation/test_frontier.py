"""The frontier: geometry by hand, and a strategy that is by construction above, on or outside the curve."""

import numpy as np
import pandas as pd
import pytest

from autodeco.errors import ConfigError, DataError
from autodeco.evaluation.frontier import frontier, highest
from autodeco.evaluation.metrics import problem_metrics
from autodeco.evaluation.specs import kind_of, parameters_of, static_setting

from .rows import frame, row, simulated

SWEEP = {0.4: (0.2, 0.70), 0.7: (0.5, 0.55), 1.0: (1.0, 0.30)}


def table(extra, *, tasks=("sums",), problems=40, noise=0.05, seed=0):
    """Problem metrics whose strategies have the given mean entropy and Pass@1; problems shift all of them alike."""
    draws = np.random.default_rng(seed)
    points = {f"static:temperature={t:g}" if t != 1 else "default": xy for t, xy in SWEEP.items()} | extra
    rows = {}
    for task in tasks:
        shift = draws.normal(0, 0.2, problems)
        shift -= shift.mean()
        for strategy, (x, y) in points.items():
            own = draws.normal(0, noise, (problems, 2))
            own -= own.mean(axis=0)
            for problem in range(problems):
                rows[task, strategy, f"p{problem}"] = {
                    "entropy": x + own[problem, 0],
                    "pass@1": y + shift[problem] + own[problem, 1],
                    "samples": 8,
                }
    found = pd.DataFrame.from_dict(rows, orient="index")
    found.index = pd.MultiIndex.from_tuples(list(rows), names=["task", "strategy", "problem"])
    return found


def by_name(found):
    return {point.strategy: point for point in found.points}


def test_specs():
    assert static_setting("default") == static_setting("static:temperature=1.0,top_p=1")
    assert static_setting("static:temperature=0.7,top_p=0.9").top_p == 0.9
    assert not static_setting("static:temperature=0.7,min_p=0.1").plain
    assert static_setting("greedy").temperature == 0
    assert static_setting("mean-shift:temperature=0.6,top_p=0.9") is None
    assert static_setting("static:temperature=warm") is None
    assert kind_of("mean-shift:temperature=0.6") == "mean-shift"
    assert parameters_of("static:temperature=0.6,top_p=1") == {"temperature": "0.6", "top_p": "1"}


def test_highest_line():
    x, y = np.array([[0.0, 2.0, 1.0, 1.0]]), np.array([[0.0, 2.0, 3.0, 0.5]])

    def at(place, segments):
        return highest(x, y, segments, np.array([place]))[0]

    assert at(1.0, [(0, 1)]) == 1.0
    assert at(1.5, [(0, 1), (1, 2)]) == 2.5  # folds back: the upper branch
    assert at(0.5, [(0, 1), (0, 2)]) == 1.5
    assert at(1.0, [(2, 3)]) == 3.0  # a vertical line
    assert np.isnan(at(2.1, [(0, 1), (1, 2)]))
    hull = [(a, b) for a in range(4) for b in range(a)]
    assert [at(place, hull) for place in (0.0, 0.5, 1.0, 1.5, 2.0)] == [0.0, 1.5, 3.0, 2.5, 2.0]


def test_distances_at_equal_diversity():
    extra = {
        "autodeco": (0.75, 0.525),  # the curve has 0.425 there
        "mean-shift:temperature=0.6": (0.35, 0.625),  # on it
        "shuffled": (1.4, 0.2),  # more diverse than any static setting
        "static:temperature=0.7,top_p=0.9": (0.6, 0.6),
    }
    found = frontier(table(extra), resamples=2000)
    points = by_name(found)
    assert [point.strategy for point in found.points if point.on_curve] == [
        "static:temperature=0.4",
        "static:temperature=0.7",
        "default",
    ]
    distance = points["autodeco"].to_curve
    assert distance.value == pytest.approx(0.1)
    assert distance.low < 0.1 < distance.high
    assert distance.low > 0.05
    assert distance.inside == 1
    # The nucleus setting lifts the envelope: at 0.75 it is on the line from (0.6, 0.6) to (1, 0.3).
    assert points["autodeco"].to_envelope.value == pytest.approx(0.525 - (0.6 - 0.15 * 0.75))
    on_it = points["mean-shift:temperature=0.6"].to_curve
    assert on_it.value == pytest.approx(0)
    assert on_it.low < 0 < on_it.high
    assert points["shuffled"].to_curve is points["shuffled"].to_envelope is None
    nucleus = points["static:temperature=0.7,top_p=0.9"]
    assert nucleus.to_curve.value == pytest.approx(0.6 - 0.5)
    assert nucleus.to_envelope is None
    assert points["default"].to_curve is None
    low, value, high = points["autodeco"].diversity.low, 0.75, points["autodeco"].diversity.high
    assert low < value < high


def test_joint_resampling_takes_the_problems_share_out():
    found = by_name(frontier(table({"autodeco": (0.75, 0.525)}), resamples=2000))["autodeco"]
    accuracy = found.accuracy.high - found.accuracy.low
    assert found.to_curve.high - found.to_curve.low < accuracy / 2


def test_no_interval_at_the_end_of_the_curve():
    point = by_name(frontier(table({"autodeco": (0.995, 0.3)}), resamples=1000))["autodeco"]
    assert point.to_curve.value is not None
    assert 0.3 < point.to_curve.inside < 0.9
    assert point.to_curve.low is point.to_curve.high is None


def test_tasks_weigh_alike():
    found = frontier(table({"autodeco": (0.75, 0.525)}, tasks=("sums", "words")), resamples=500)
    assert (found.tasks, found.problems) == (("sums", "words"), 80)
    assert by_name(found)["autodeco"].to_curve.value == pytest.approx(0.1)


def test_a_strategy_that_was_not_run_on_every_task_is_left_out():
    whole = table({"autodeco": (0.5, 0.6), "p-less": (0.3, 0.7)}, tasks=("sums", "words"))
    begun = whole.drop(index=[at for at in whole.index if at[:2] == ("words", "p-less")])
    found = frontier(begun, resamples=50)
    assert found.left_out == {"p-less": "it was not run on words"}
    assert found.problems == 80
    assert "p-less" not in by_name(found)
    assert frontier(begun, tasks=["sums"], resamples=50).left_out == {}


def test_where_no_strategy_has_every_task_the_error_says_what_is_missing():
    whole = table({}, tasks=("sums", "words"))
    apart = whole.drop(index=[at for at in whole.index if (at[0] == "words") == (at[1] == "default")])
    with pytest.raises(DataError, match="two problems of each of sums, words"):
        frontier(apart, resamples=50)
    begun = whole.drop(index=[at for at in whole.index if at[0] == "words" and at[1] != "default"])
    with pytest.raises(DataError, match=r"found 1; static:temperature=0.4 is left out: it was not run on words"):
        frontier(begun, resamples=50)


def test_from_results():
    strategies = {"static:temperature=0.5": 0.7, "default": 0.4, "autodeco": 0.6, "greedy": 0.7}
    rows = [r for r in simulated(strategies, problems=12, samples=4) if r["strategy"] != "greedy" or r["sample"] == 0]
    found = problem_metrics(frame(rows))
    for measure in ("entropy", "distinct_2", "1 - self_bleu", "pass@4"):
        placed = frontier(found, measure, resamples=200)
        assert ("greedy" in placed.left_out) == (measure != "entropy")
        assert {"autodeco", "default"} <= set(by_name(placed))
    assert "1 samples a problem where others have 4" in frontier(found, "distinct_2", resamples=50).left_out["greedy"]
    with pytest.raises(ConfigError, match=r"'entrpy'.*'entropy'"):
        frontier(found, "entrpy")
    alone = problem_metrics(frame([row(problem=p, strategy=s) for p in "ab" for s in ("default", "autodeco")]))
    with pytest.raises(DataError, match="at least two temperatures at top_p = 1, found 1"):
        frontier(alone)
