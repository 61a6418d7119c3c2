"""Trajectories read from a file: named by their rows, bad ones an error or left out."""

from __future__ import annotations

import json

import pytest

from autodeco.errors import DataError
from autodeco.evaluation.trajectories import read_trajectories
from tests.conftest import byte_tokenizer, tiny_autodeco


def test_rows_that_cannot_be_used_are_an_error_or_left_out(tmp_path):
    path = tmp_path / "rollout.jsonl"
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in (("a", "b"), ("a", ""), ("c", "d"))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = byte_tokenizer()
    model = tiny_autodeco(vocab_size=len(tokenizer))
    with pytest.raises(DataError, match=r"rollout.jsonl:2: the completion is empty"):
        read_trajectories(path, model, tokenizer)
    found = read_trajectories(path, model, tokenizer, skip_bad_rows=True)
    assert [one.tokens.name for one in found] == [f"{path}:1", f"{path}:3"]
    assert [one.prompt for one in found] == ["a", "c"]
    assert found[0].problem != found[1].problem
