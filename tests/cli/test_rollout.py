"""``autodeco rollout`` as a user meets it."""

import json

import pytest
import torch

from autodeco import AutoDecoForCausalLM
from tests.cli.test_app import run

TASK = """
from autodeco.tasks import Example, Task
from autodeco.tasks.base import take


class Anything(Task):
    name = "anything"

    def __init__(self, broken=False):
        self._broken = broken

    def examples(self, split, count, seed):
        texts = [f"Say {number}" for number in range(50)]
        pairs = ((text, Example(text, [{"role": "user", "content": text}], "a")) for text in texts)
        return take(pairs, split, count, self.name)

    def verify(self, example, completion):
        return 1 / 0 if self._broken else True
"""


@pytest.fixture
def start(capsys, heads, tmp_path):
    (tmp_path / "own.py").write_text(TASK)

    def start(*more):
        return run(
            capsys,
            *(
                "rollout",
                "--model",
                heads,
                "--task",
                f"{tmp_path / 'own.py'}:Anything",
                "--problems",
                3,
                "--samples",
                2,
            ),
            *("--max-new-tokens", 5, "--engine", "transformers", "--output", tmp_path / "run", *more),
        )

    return start


def test_ids_and_log_probabilities_are_kept_and_a_finished_one_is_not_drawn_again(start, tmp_path):
    # Random heads seldom end a text: what was not finished is not trained on.
    status, out, err = start()
    assert "6 of 6 right: 100.0%" in out
    rows = [json.loads(line) for line in (tmp_path / "run" / "all.jsonl").read_text().splitlines()]
    assert all(len(row["log_probs"]) == len(row["completion_ids"]) for row in rows)
    kept = [row for row in rows if row["finish"] == "stop"]
    assert (status == 0) == bool(kept)
    assert kept or "none of the completions can be trained on (6 unfinished)" in err.replace("\n", " ")
    assert "is finished; nothing is sampled" in start()[1]


def test_a_verifier_that_fails_is_told_of_before_there_is_nothing_to_train_on(start):
    status, out, err = start("--set", "broken=true")
    assert status == 2
    assert "6 could not be verified, and count neither as right nor as wrong." in out
    assert "(6 error)" in err


def test_heads_trained_anew_are_not_gone_on_with(start, heads):
    start()
    model = AutoDecoForCausalLM.from_pretrained(str(heads))
    with torch.no_grad():
        model.decoding_heads.temp_head.mlp[2].bias.add_(0.5)
    model.save_pretrained(heads)
    status, _, err = start()
    assert status == 2
    assert "holds another rollout: weights is" in err.replace("\n", " ")
