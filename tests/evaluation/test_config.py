"""The configuration of an evaluation: what strategies stand for, and errors that name file and key."""

import pytest

from autodeco.errors import ConfigError
from autodeco.evaluation.config import evaluation_config
from autodeco.evaluation.entries import is_measured, needs_heads, oracle_split

GOOD = {"models": ["runs/heads"], "tasks": ["ifeval"], "strategies": ["default"], "output": "runs/eval"}


def config(**changes):
    return evaluation_config({**GOOD, **changes}, "eval.yaml")


def test_short_forms_of_models_and_tasks():
    found = config(models=["runs/heads/", {"path": "a/b", "name": "other"}], tasks=["ifeval", {"name": "aime24"}])
    assert [model.label for model in found.models] == ["heads", "other"]
    assert [task.name for task in found.tasks] == ["ifeval", "aime24"]
    assert found.tasks[0].split == "test"


def test_one_setting_has_one_name_and_is_there_once():
    found = config(strategies=["default", "static", {"name": "static", "temperature": 0.7}, "static:temperature=0.70"])
    assert found.strategies == ["default", "static:temperature=0.7"]


def test_the_static_sweep_is_spelt_out():
    strategies = config(strategies=["static-sweep"]).strategies
    assert len(strategies) == 15
    assert strategies[0] == "static:temperature=0.1"
    assert strategies[9] == "default"  # T = 1
    assert strategies[-1] == "static:temperature=1.5"
    assert config(strategies=["static-sweep:low=0.5,high=1,step=0.25"]).strategies == [
        *("static:temperature=0.5", "static:temperature=0.75", "default")
    ]


def test_words_that_stand_for_other_strategies():
    found = config(strategies=["mean-shift", "shuffled", "oracle", "oracle:split=validation"], measure_on="t.jsonl")
    assert found.strategies == ["mean-shift", "shuffled:seed=0", "oracle", "oracle:split=validation"]
    assert [is_measured(text) for text in found.strategies] == [True, True, False, False]
    assert [needs_heads(text) for text in found.strategies] == [True, True, False, False]
    assert oracle_split("oracle") is None
    assert oracle_split("oracle:split=validation") == "validation"


def test_mean_shift_with_numbers_needs_no_heads_and_no_data():
    (text,) = config(strategies=["mean-shift:temperature=0.6,top_p=0.9"]).strategies
    assert not is_measured(text)
    assert not needs_heads(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": 3}, "unknown setting 'sample'. Did you mean 'samples'?"),
        ({"samples": 0}, "samples: found 0; Input should be greater than or equal to 1"),
        ({"samples": 6, "block": 4}, "samples must be a multiple of block, found 6 and 4"),
        ({"models": []}, "models"),
        ({"models": [{"path": "a", "pth": "a"}]}, "unknown setting 'models.0.pth'. Did you mean 'path'?"),
        ({"models": [{"name": "a"}]}, "models.0.path is missing (base, heads"),
        ({"models": ["a/x", "b/x"]}, "two are called 'x'"),
        ({"tasks": [{"name": "a", "splt": "test"}]}, "unknown setting 'tasks.0.splt'. Did you mean 'split'?"),
        ({"tasks": [{"name": "a", "problems": 0}]}, "tasks.0.problems: found 0"),
        ({"strategies": ["autodec"]}, "unknown strategy 'autodec'. Did you mean 'autodeco'?"),
        ({"strategies": ["orakle"]}, "Did you mean 'oracle'?"),
        ({"strategies": ["static:temprature=1"]}, "Did you mean 'temperature'?"),
        ({"strategies": ["oracle:spilt=test"]}, "Did you mean 'split'?"),
        ({"strategies": ["oracle:split=train"]}, "split must be test or validation, found 'train'"),
        ({"strategies": ["static-sweep:low=2"]}, "low <= high"),
        ({"strategies": ["static-sweep:step=0"]}, "a step that gives"),
        ({"strategies": ["shuffled:seed=x"], "measure_on": "t.jsonl"}, "seed must be a whole number"),
        ({"strategies": ["mean-shift"]}, "measured on training data: name a JSONL file"),
        ({"strategies": "greedy"}, "a list of strategies is needed"),
        ({"strategies": []}, "strategies"),
        ({"engine": "vlm"}, "Did you mean 'vllm'?"),
    ],
)
def test_errors_name_the_file_the_key_and_the_remedy(changes, message):
    with pytest.raises(ConfigError) as caught:
        config(**changes)
    assert str(caught.value).startswith("eval.yaml: ")
    assert message in str(caught.value)
