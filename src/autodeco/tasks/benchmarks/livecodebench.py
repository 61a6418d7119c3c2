"""LiveCodeBench v6 (Jain et al., arXiv 2403.07974): contest problems from 2023-09-01 on, checked by hidden tests.

Prompts, the imports that programs may rely on, the comparison of outputs and the time limit of a test are those of the
benchmark's own runner. The right outputs never enter the sandbox, so no program can pass without computing them.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import zlib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from autodeco.errors import DataError
from autodeco.tasks.base import Example, Verdict
from autodeco.tasks.benchmarks.base import Benchmark
from autodeco.tasks.benchmarks.code import code_blocks
from autodeco.tasks.benchmarks.rows import Row, Source, field
from autodeco.tasks.sandbox import Limits, Outcome, require_sandbox, run_python

_SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a "
    "correct Python program that matches the specification and passes all tests. You will NOT return anything except "
    "for the program."
)
_WITH_STARTER = (
    "### Format: You will use the following starter code to write the solution to the problem and enclose your code "
    "within delimiters.\n```python\n{}\n```\n\n"
)
_WITHOUT_STARTER = (
    "### Format: Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on "
    "the sample inputs). Enclose your code within delimiters as follows.\n```python\n# YOUR CODE HERE\n```\n\n"
)
_ANSWER = "### Answer: (use the provided format with backticks)\n\n"
_MODULES = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
_IMPORTS = (
    "".join(f"from {module} import *\n" for module in f"{_MODULES} builtins typing".split())
    + "".join(f"import {module}\n" for module in _MODULES.split())
    + "sys.setrecursionlimit(50000)\n"
)
_FROM = "2023-09-01"
_SECONDS = 6  # of each test
_MEMORY = 4 << 30


class LiveCodeBenchV6(Benchmark):
    """LiveCodeBench, release v6, problems from 2023-09-01 on.

    Raises:
        SandboxError: model-written code cannot be confined here.
    """

    name = "livecodebench-v6"
    concurrent = True
    # The authors' own data set (livecodebench/code_generation_lite) needs a loading script, which datasets refuses now.
    source = Source("lighteval/code_generation_lite", "release_v6", "test", files=("livecodebench", "livecodebench_v6"))

    def __init__(self, data: str | Path | None = None) -> None:
        require_sandbox()
        super().__init__(data)

    def rows(self, split: str) -> list[Row]:
        """The published rows of the paper's time window."""
        rows = [row for row in super().rows(split) if str(row.get("contest_date") or "") >= _FROM]
        if not rows:
            raise DataError(f"task '{self.name}': no problem has a 'contest_date' of {_FROM} or later.")
        return rows

    def example(self, row: Row, where: str) -> Example:
        """The benchmark's own chat prompt; public and hidden tests as metadata, undecoded (they are huge)."""
        question, starter = str(field(row, ["question_content"], where)), str(row.get("starter_code") or "")
        form = _WITH_STARTER.format(starter) if starter else _WITHOUT_STARTER
        messages = [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": f"### Question:\n{question}\n\n{form}{_ANSWER}"},
        ]
        tests = [field(row, [name], where) for name in ("public_test_cases", "private_test_cases")]
        function = json.loads(row.get("metadata") or "{}").get("func_name")
        metadata = {"tests": tests, "function": function, "difficulty": row.get("difficulty")}
        return Example(str(field(row, ["question_id"], where)), messages, "", metadata)

    def final_answer(self, example: Example, completion: str) -> str | None:
        """None: programs are not voted on."""
        return None

    def verify(self, example: Example, completion: str) -> bool:
        """Whether the last code block passes all tests."""
        return bool(self.check(example, completion).correct)

    def check(self, example: Example, completion: str) -> Verdict:
        """Runs the tests up to the first that fails; ``details`` say how many passed and what ended the run."""
        function = example.metadata["function"]
        tests = [test for text in example.metadata["tests"] for test in _tests(text, f"tests of {example.id}")]
        blocks = code_blocks(completion)
        if not blocks:
            return Verdict(False, None, {"status": "no code", "passed": 0, "tests": len(tests)})
        program = f"{_IMPORTS}\n{blocks[-1]}"
        passed, outcome = _by_stdin(program, tests) if function is None else _by_calls(program, function, tests)
        details = {"status": outcome.status, "raised": outcome.error, "passed": passed, "tests": len(tests)}
        return Verdict(passed == len(tests), None, details)


def _by_stdin(program: str, tests: list[list[str]]) -> tuple[int, Outcome]:
    limits = Limits(seconds=2 * _SECONDS, cpu_seconds=_SECONDS, memory_bytes=_MEMORY, output_bytes=64 << 20)
    outcome = Outcome("completed")
    for passed, (given, needed) in enumerate(tests):
        outcome = run_python(program, stdin=given, as_script=True, limits=limits)
        if outcome.status != "completed" or not same_output(outcome.stdout, needed):
            return passed, outcome
    return len(tests), outcome


def _by_calls(program: str, function: str, tests: list[list[str]]) -> tuple[int, Outcome]:
    # As the benchmark's own runner: a line of JSON for each argument.
    calls = [[json.loads(line) for line in given.split("\n")] for given, _ in tests]
    seconds = (_SECONDS + 1) * len(tests) + 5
    limits = Limits(seconds, seconds, _MEMORY, output_bytes=64 << 20, call_seconds=_SECONDS)
    outcome = run_python(program, function=function, calls=calls, limits=limits)
    for passed, (_, needed) in enumerate(tests):
        if passed >= len(outcome.values) or outcome.values[passed] != json.loads(needed):
            return passed, outcome
    return len(tests), outcome


def same_output(found: str, needed: str) -> bool:
    """Equal line by line apart from white space around lines; lines of numbers may also be equal as numbers."""
    lines = [[line.strip() for line in text.strip().split("\n")] for text in (found, needed)]
    if len(lines[0]) != len(lines[1]):
        return False
    return all(one == other or _same_numbers(one, other) for one, other in zip(*lines, strict=True))


def _same_numbers(found: str, needed: str) -> bool:
    try:
        return [Decimal(word) for word in found.split()] == [Decimal(word) for word in needed.split()]
    except InvalidOperation:
        return False


class _TextOnly(pickle.Unpickler):
    """The hidden tests are published as a pickled text; a pickle that would call anything is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only text is expected")


def _tests(published: str, where: str) -> list[list[str]]:
    """Inputs and outputs from JSON, or from JSON that was pickled, compressed and encoded in base64."""
    try:
        if not published.lstrip().startswith("["):
            published = _TextOnly(io.BytesIO(zlib.decompress(base64.b64decode(published)))).load()
        return [[test["input"], test["output"]] for test in json.loads(published)]
    except (ValueError, KeyError, TypeError, EOFError, zlib.error, pickle.UnpicklingError) as error:
        raise DataError(f"{where}: test cases cannot be read ({type(error).__name__}: {error}).") from error
