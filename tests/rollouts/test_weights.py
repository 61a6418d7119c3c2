from __future__ import annotations

import pytest

from autodeco.errors import DataError
from autodeco.rollouts import weighted_by_advantage


def _rows(problem, *outcomes, task="t"):
    return [{"task": task, "id": problem, "correct": correct} for correct in outcomes]


def test_reward_less_the_mean_of_the_problems_other_samples():
    rows = [*_rows("a", True, False, False, None, False), *_rows("b", True, True), *_rows("a", True, False, task="u")]
    found = weighted_by_advantage(rows)
    assert [row["weight"] for row in found] == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3, 1, -1])
    assert {(row["task"], row["id"]) for row in found} == {("t", "a"), ("u", "a")}
    assert "weight" not in rows[0]


def test_rows_without_a_contrast_are_an_error():
    with pytest.raises(DataError, match="none of 2 problems has both right and wrong"):
        weighted_by_advantage([*_rows("a", True, True), *_rows("b", False)])
