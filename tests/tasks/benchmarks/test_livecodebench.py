"""LiveCodeBench: prompts, hidden tests as published, and verdicts on programs made by hand."""

from __future__ import annotations

import base64
import json
import pickle
import zlib

import pytest

from autodeco.tasks import get_task
from autodeco.tasks.benchmarks.livecodebench import same_output
from autodeco.tasks.sandbox import confine

needs_sandbox = pytest.mark.skipif(confine.supported() is not None, reason="no sandbox here")


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _lcb(number, tests, hidden, *, function=None, date="2024-01-01T00:00:00"):
    cases = [[{"input": given, "output": out, "testtype": "stdin"} for given, out in part] for part in (tests, hidden)]
    packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases[1])))).decode()
    return {
        "question_id": f"q{number}",
        "question_content": "Add them.",
        "contest_date": date,
        "starter_code": "class Solution:\n    def add(self, a, b):" if function else "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(cases[0]),
        "private_test_cases": packed,
        "metadata": json.dumps({"func_name": function} if function else {}),
    }


@pytest.fixture
def livecodebench(tmp_path):
    return get_task(
        "livecodebench-v6",
        data=_write(
            tmp_path / "livecodebench.jsonl",
            [
                _lcb(0, [("1 2", "3\n")], [("5 6", "11")], date="2023-09-01T00:00:00"),
                _lcb(1, [("1\n2", "3")], [("[1]\n[2]", "[1, 2]")], function="add"),
                _lcb(2, [], [], date="2023-08-31T00:00:00"),
            ],
        ),
    )


@needs_sandbox
@pytest.mark.parametrize(
    ("problem", "code", "passed"),
    [
        (0, "a, b = map(int, input().split())\nprint(a + b)", 2),
        (0, "if __name__ == '__main__':\n    print(sum(map(float, sys.stdin.read().split())))\n    sys.exit(0)", 2),
        (0, "print(reduce(add, map(int, input().split())))", 2),  # the runner's own imports
        (0, "print(3)", 1),
        (0, "print(3)\nimport os\nos._exit(0)", 0),
        (0, "print(3)\n1 / 0", 0),
        (0, "", 0),
        (1, "class Solution:\n    def add(self, a, b): return a + b", 2),
        (1, "def add(a, b): return a + b", 2),
        (1, "class Solution:\n    def add(self, a, b): return tuple(a + b) if isinstance(a, list) else a + b", 2),
        (1, "class Solution:\n    def add(self, a, b): return [a + b]", 0),
        (1, "class Solution:\n    def add(self, a, b):\n        if a == 1: return 3\n        1 / 0", 1),
        (1, "class Solution:\n    def sub(self, a, b): return 3", 0),
        (0, "a, b = input().split()\nprint(int(a) + int(b))\nprint()", 2),  # white space at the end
        (0, "import sys\nprint(sum(int(x) for x in sys.stdin.readline().split()))", 2),
        (0, "def main():\n    print(sum(map(int, input().split())))\n\nmain()", 2),
        (0, "def main():\n    print(sum(map(int, input().split())))\n\nif __name__ == '__main__':\n    main()", 2),
        (0, "sys.stdout.write(str(sum(map(int, sys.stdin.read().split()))))", 2),
        (0, "print(f'{sum(map(int, input().split())):.2f}')", 2),  # lines of numbers are compared as numbers
        (0, "print(Counter(map(int, input().split())).total())", 0),
        (0, "a, b = map(int, input().split())\nprint(a - b)", 0),
        (0, "a, b = map(int, input().split())\nprint('sum:', a + b)", 0),
        (0, "a, b = map(int, input().split())\nprint(a + b)\nprint(a + b)", 0),
        (0, "a = int(input())\nb = int(input())\nprint(a + b)", 0),
        (0, "print(eval(input().replace(' ', '+')))", 2),
        (0, "def add(a, b): return a + b", 0),  # prints nothing
        (0, "print(open('/etc/hostname').read())", 0),
        (0, "while True: print(input())", 0),
        (1, "class Solution:\n    def add(self, a, b):\n        print('debugging')\n        return a + b", 2),
        (1, "class Solution:\n    def add(self, *values): return values[0] + values[1]", 2),
        (1, "class Solution:\n    def __init__(self): self.x = 1\n    def add(self, a, b): return self.x * (a + b)", 2),
        (1, "class Solution:\n    def add(self, a, b): return str(a + b)", 0),
        (1, "class Solution:\n    def add(self, a): return a", 0),
        (1, "class Solution:\n    def add(self, a, b): return None", 0),
        (1, "class Solution:\n    def add(self, a, b): return int(a + b) if isinstance(a, int) else [3]", 1),
        (1, "class Solution:\n    def add(self, a, b): raise SystemExit(0)", 0),
    ],
)  # fmt: skip
def test_livecodebench(livecodebench, problem, code, passed):
    examples = livecodebench.examples("test", None, 0)
    assert [example.id for example in examples] == ["q0", "q1"]
    verdict = livecodebench.judge(examples[problem], f"Here:\n```python\n{code}\n```")
    assert (verdict.correct, verdict.details["passed"], verdict.details["tests"]) == (passed == 2, passed, 2)


@needs_sandbox
def test_livecodebench_prompts_and_damage(livecodebench, tmp_path):
    first, second = livecodebench.examples("test", None, 0)
    assert "Read the inputs from stdin" in first.messages[1]["content"]
    assert "```python\nclass Solution:\n    def add(self, a, b):\n```" in second.messages[1]["content"]
    assert livecodebench.judge(first, "no code").correct is False
    row = _lcb(0, [], [])
    attack = base64.b64encode(zlib.compress(pickle.dumps(print))).decode()
    task = get_task("livecodebench-v6", data=_write(tmp_path / "x.jsonl", [{**row, "private_test_cases": attack}]))
    verdict = task.judge(task.examples("test", 1, 0)[0], "```python\nprint(1)\n```")
    assert (verdict.correct, "only text is expected" in verdict.error) == (None, True)


@pytest.mark.parametrize(
    ("found", "needed", "same"),
    [
        ("1\n2\n", "1\n2", True),
        ("  1 \n 2", "1\n2", True),
        ("1.0 2", "1 2.00", True),
        ("0.1000000000000000055", "0.1", False),
        ("1 2", "1  2", True),
        ("a b", "a  b", False),
        ("YES", "Yes", False),
        ("1\n\n2", "1\n2", False),
        ("", "1", False),
        ("1 x", "1 y", False),
    ],
)
def test_outputs_are_compared_as_published(found, needed, same):
    assert same_output(found, needed) is same
