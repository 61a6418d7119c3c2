from __future__ import annotations

import pytest

from autodeco.errors import DataError
from autodeco.rollouts import keep, write_kept


def _row(problem="a", text="x", correct=True, finish="stop"):
    completion = [{"role": "assistant", "content": text}]
    return {"task": "t", "id": problem, "completion": completion, "correct": correct, "finish": finish}


def test_right_finished_different_rows_are_kept():
    rows = [
        _row(text="1"),
        _row(text="1"),
        _row(text="2", correct=False),
        _row(text="3", finish="length"),
        _row(problem="b", text="1"),
        _row(text="4"),
    ]
    kept = keep(rows)
    assert kept.rows == [rows[0], rows[4], rows[5]]
    assert kept.dropped == {"error": 0, "wrong": 1, "unfinished": 1, "too_long": 0, "duplicate": 1, "over_cap": 0}


def test_rows_that_could_not_be_verified_are_dropped_as_errors():
    rows = [_row(correct=None), _row(text="y", correct=False), _row(text="z")]
    assert keep(rows).dropped["error"] == 1
    assert keep(rows, only_correct=False).rows == rows[1:]


def test_a_cap_is_per_problem():
    rows = [_row(problem=problem, text=str(number)) for problem in "ab" for number in range(5)]
    kept = keep(rows, most_per_problem=2)
    assert [row["id"] for row in kept.rows] == ["a", "a", "b", "b"]
    assert kept.dropped["over_cap"] == 6


def test_long_ones_can_be_left_out(tmp_path):
    rows = [_row() | {"completion_ids": [1] * 3}, _row(text="y") | {"completion_ids": [1] * 4}]
    kept = keep(rows, most_tokens=3)
    assert (kept.rows, kept.dropped["too_long"]) == (rows[:1], 1)
    with pytest.raises(DataError, match=r"can be trained on \(2 too long\)"):
        write_kept(rows, tmp_path / "right.jsonl", most_tokens=2)


def test_wrong_ones_can_be_kept():
    assert len(keep([_row(correct=False)], only_correct=False).rows) == 1
