"""The published sweep: two stages, the choice on given scores, and what is still to be scored."""

from __future__ import annotations

import pytest

from autodeco.errors import ConfigError, DataError
from autodeco.evaluation.oracle import Sweep
from autodeco.strategies import get_strategy


def landscape(best_temperature, best_top_p):
    """A score with its one peak at given values; top-p counts for less."""

    def score(spec):
        strategy = get_strategy(spec)
        temperature, top_p = getattr(strategy, "temperature", 1.0), getattr(strategy, "top_p", 1.0)
        return 1 - abs(temperature - best_temperature) - abs(top_p - best_top_p) / 10

    return score


def test_finds_a_peak_on_the_grid():
    choice = Sweep().run(landscape(0.8, 0.9))  # BRUMO25's best setting in the paper
    assert choice.spec == "static:temperature=0.8,top_p=0.9"
    assert choice.score == pytest.approx(1)
    assert not choice.at_edge


def test_the_default_is_one_of_its_settings():
    assert Sweep().run(landscape(1.0, 1.0)).spec == "default"


def test_each_setting_is_scored_once_and_only_the_best_temperatures_top_ps():
    asked = []

    def score(spec):
        asked.append(spec)
        return landscape(0.3, 0.6)(spec)

    Sweep().run(score)
    assert len(asked) == len(set(asked)) == 15 + 9
    assert asked[0] == "static:temperature=0.1"
    assert asked[9] == "default"
    assert asked[15:] == [f"static:temperature=0.3,top_p=0.{tenth}" for tenth in range(1, 10)]


def test_missing_leads_through_both_stages():
    sweep = Sweep((0.5, 1.0), (0.5,))
    scores = {}
    assert sweep.missing(scores) == ["static:temperature=0.5", "default"]
    scores |= {"static:temperature=0.5": 0.2}
    assert sweep.missing(scores) == ["default"]
    scores |= {"default": 0.3}
    assert sweep.missing(scores) == ["static:top_p=0.5"]
    scores |= {"static:top_p=0.5": 0.25}
    assert sweep.missing(scores) == []
    assert sweep.choose(scores).spec == "default"


def test_validation_and_test_can_choose_differently():
    sweep = Sweep((0.5, 1.0), (0.5,))
    validation = {"static:temperature=0.5": 0.4, "default": 0.3, "static:temperature=0.5,top_p=0.5": 0.5}
    test = {"static:temperature=0.5": 0.3, "default": 0.4, "static:top_p=0.5": 0.2}
    honest, oracle = sweep.choose(validation), sweep.choose(test)
    assert (honest.spec, oracle.spec) == ("static:temperature=0.5,top_p=0.5", "default")
    # The honest choice is then scored on the test set, which may not have it yet.
    assert honest.spec not in test


def test_of_equal_scores_the_one_nearer_to_default_sampling():
    sweep = Sweep((0.5, 0.9, 1.2), (0.3, 0.6))
    assert sweep.run(lambda spec: 0.5).spec == "static:temperature=0.9"


def test_a_best_temperature_at_the_end_is_reported():
    assert Sweep().run(landscape(3.0, 0.9)).at_edge
    assert not Sweep().run(landscape(1.4, 0.9)).at_edge


def test_scores_that_are_missing_or_no_numbers():
    sweep = Sweep((0.5, 1.0), (0.5,))
    with pytest.raises(DataError, match=r"no score of default\."):
        sweep.choose({"static:temperature=0.5": 0.4})
    with pytest.raises(DataError, match=r"no score of static:top_p=0\.5\."):
        sweep.choose({"static:temperature=0.5": 0.2, "default": 0.3})
    with pytest.raises(DataError, match="is NaN"):
        sweep.choose({"static:temperature=0.5": float("nan"), "default": 0.3})
    with pytest.raises(ConfigError, match="at least one temperature"):
        Sweep(())
    with pytest.raises(ConfigError, match="top_p"):
        Sweep(top_ps=(0.0,))
