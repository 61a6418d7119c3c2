from __future__ import annotations

import json

import pytest

from autodeco.errors import ConfigError, DataError, MissingDependencyError
from autodeco.tasks import JsonlTask, ReasoningGymTask, demo_tasks, get_task, task_names
from autodeco.tasks.base import split_of

SPLITS = ("train", "validation", "test")


def _sums(**kwargs: object) -> ReasoningGymTask:
    settings = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    return ReasoningGymTask("chain_sum", **{"settings": settings, **kwargs})


def test_splits_are_disjoint_whatever_the_seeds():
    prompts = {
        split: {example.messages[-1]["content"] for seed in (0, 1) for example in _sums().examples(split, 20, seed)}
        for split in SPLITS
    }
    assert not prompts["train"] & prompts["test"]
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["validation"] & prompts["test"]


def test_problems_are_different_and_the_seed_decides_them():
    first, again, other = (_sums().examples("train", 30, seed) for seed in (5, 5, 6))
    assert first == again
    assert [example.id for example in first] != [example.id for example in other]
    assert len({example.id for example in first}) == 30


def test_neighbouring_seeds_are_not_the_same_stream_shifted():
    first, second = ([example.id for example in _sums().examples("train", 10, seed)] for seed in (0, 1))
    assert first[1:] != second[:-1]


def test_too_many_problems_are_refused_with_their_number():
    with pytest.raises(DataError, match=r"1000 different test problems .* only \d+ were found"):
        _sums().examples("test", 1000, 0)


@pytest.mark.parametrize(
    ("split", "count", "message"), [("tests", 1, "Did you mean 'test'"), ("test", 0, "at least 1")]
)
def test_bad_requests(split, count, message):
    with pytest.raises(DataError, match=message):
        _sums().examples(split, count, 0)


def test_split_sizes_are_about_six_two_two():
    splits = [split_of(str(number)) for number in range(5000)]
    assert [round(splits.count(split) / 5000, 1) for split in SPLITS] == [0.6, 0.2, 0.2]


def test_worked_examples_come_first_and_never_as_the_problem():
    question = _sums().examples("train", 1, 0)[0].metadata["question"]
    task = _sums(shots=[(question, "so the answer is 1.")], system="Be brief.", prompt="{question} Go.")
    examples = task.examples("train", 20, 0)
    assert [message["role"] for message in examples[0].messages] == ["system", "user", "assistant", "user"]
    assert examples[0].messages[1]["content"] == question + " Go."
    assert all(example.messages[-1]["content"] != question + " Go." for example in examples)


@pytest.mark.parametrize("task", demo_tasks(), ids=lambda task: task.name)
def test_demo_tasks_verify_their_own_answers(task):
    for example in task.examples("test", 15, 0):
        assert task.verify(example, f"1 + 1 = 2, so the answer is {example.answer}.")
        assert task.verify(example, example.answer)
        assert not task.verify(example, f"The answer is {int(example.answer) + 1}.")
        assert not task.verify(example, "")
        json.dumps(example.metadata)


def test_text_answers():
    task = ReasoningGymTask("spell_backward", answer_kind="text", settings={"min_word_len": 3, "max_word_len": 4})
    example = task.examples("train", 1, 0)[0]
    assert task.verify(example, f"Backward: the answer is {example.answer}.")
    assert not task.verify(example, example.answer[::-1] + "x")


def test_a_fingerprint_tells_settings_apart():
    assert _sums().fingerprint() == _sums().fingerprint()
    assert _sums().fingerprint() != _sums(prompt="{question}!").fingerprint()
    json.dumps(_sums(shots=[("a", "b")]).fingerprint())


def test_unknown_names_and_settings():
    with pytest.raises(DataError, match="Did you mean 'chain_sum'"):
        ReasoningGymTask("chain_sums")
    with pytest.raises(ConfigError, match="refuses"):
        ReasoningGymTask("chain_sum", settings={"terms": 3})
    with pytest.raises(DataError, match="Did you mean 'demo-sums'"):
        get_task("demo-sum")


def test_without_reasoning_gym_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym.factory", None)
    with pytest.raises(MissingDependencyError, match=r"autodeco\[demo\]"):
        demo_tasks()


def test_get_task(tmp_path):
    assert [get_task(task.name).name for task in demo_tasks()] == task_names()[: len(demo_tasks())]
    assert get_task("reasoning-gym/gcd").name == "reasoning-gym/gcd"
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "1 + 1?", "answer": 2, "split": "test"}\n')
    assert get_task(str(path)).name == "mine"


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_jsonl_task(tmp_path):
    rows = [{"prompt": f"{n} + 1?", "answer": n + 1} for n in range(60)]
    rows += [{"prompt": [{"role": "system", "content": "Hi"}, {"role": "user", "content": "Q"}], "answer": "1"}]
    task = JsonlTask(_write(tmp_path / "mine.jsonl", [*rows, rows[0]]))
    found = {split: {example.id for example in task.examples(split, 5, 0)} for split in SPLITS}
    assert not found["train"] & found["test"]
    example = task.examples("train", 1, 0)[0]
    assert task.verify(example, f"The answer is {example.answer}.")
    assert example.messages[-1]["role"] == "user"
    assert task.examples("train", 9, 1) == JsonlTask(tmp_path / "mine.jsonl").examples("train", 9, 1)


def test_jsonl_lines_may_name_their_split(tmp_path):
    rows = [{"prompt": f"{n}?", "answer": "x", "split": "test"} for n in range(10)]
    task = JsonlTask(_write(tmp_path / "mine.jsonl", rows), verifier="exact")
    assert len(task.examples("test", 10, 0)) == 10
    with pytest.raises(DataError, match="only 0 were found"):
        task.examples("train", 1, 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, "line 1: 'answer' is missing"),
        ({"answer": "a"}, "line 1: 'prompt' is missing"),
        ({"prompt": "a", "answer": None}, "line 1: 'answer' must be"),
        ({"prompt": "", "answer": "1"}, "line 1: 'prompt' must be"),
        ({"prompt": [{"role": "user"}], "answer": "1"}, "line 1: 'prompt' must be"),
        ({"prompt": "a", "answer": "1", "split": "dev"}, "line 1: 'split' must be"),
    ],
)
def test_jsonl_mistakes_are_named(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        JsonlTask(_write(tmp_path / "mine.jsonl", [row]))


def test_an_empty_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no problems"):
        JsonlTask(_write(tmp_path / "mine.jsonl", []))
