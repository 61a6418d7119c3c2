"""Competition mathematics: AIME 2024 and 2025, BRUMO 2025, HMMT February 2025, BeyondAIME. Scored by math-verify.

The prompt's last line and the scoring are the paper's (arXiv 2510.26697, evaluation).
"""

from __future__ import annotations

from pathlib import Path

from autodeco.tasks.base import Example, Verdict, prompt_id
from autodeco.tasks.benchmarks.base import Benchmark
from autodeco.tasks.benchmarks.rows import Row, Source, field
from autodeco.tasks.mathematics import check_math_verify, compare

PROMPT_END = "\nMake sure you output the final answer within \\boxed{}."


class MathBenchmark(Benchmark):
    """Problems with one mathematical answer each.

    Raises:
        MissingDependencyError: math-verify is not installed.
    """

    def __init__(self, data: str | Path | None = None) -> None:
        check_math_verify()
        super().__init__(data)

    def example(self, row: Row, where: str) -> Example:
        """The problem and the paper's request to box the answer."""
        problem = str(field(row, ["problem", "question"], where)).strip()
        answer = str(field(row, ["gt", "answer"], where)).strip()
        return Example(f"{self.name}-{prompt_id(problem)}", [{"role": "user", "content": problem + PROMPT_END}], answer)

    def final_answer(self, example: Example, completion: str) -> str | None:
        """The final answer as SymPy writes it."""
        return compare(example.answer, completion).answer

    def verify(self, example: Example, completion: str) -> bool:
        """Whether the final answer equals the right one."""
        return compare(example.answer, completion).correct

    def check(self, example: Example, completion: str) -> Verdict:
        """Both at once; ``details`` say if math-verify had to be stopped."""
        found = compare(example.answer, completion)
        return Verdict(found.correct, found.answer, {"timed_out": True} if found.timed_out else {})


class AIME24(MathBenchmark):
    """American Invitational Mathematics Examination 2024, I and II: 30 problems."""

    name = "aime24"
    source = Source("HuggingFaceH4/aime_2024", split="train", files=("aime24", "aime_2024"))


class AIME25(MathBenchmark):
    """American Invitational Mathematics Examination 2025, I and II: 30 problems."""

    name = "aime25"
    source = Source("MathArena/aime_2025", split="train", files=("aime25", "aime_2025"))


class BRUMO25(MathBenchmark):
    """Brown University Math Olympiad 2025: 30 problems."""

    name = "brumo25"
    source = Source("MathArena/brumo_2025", split="train", files=("brumo25", "brumo_2025"))


class HMMT25(MathBenchmark):
    """Harvard-MIT Mathematics Tournament, February 2025: 30 problems."""

    name = "hmmt25"
    source = Source("MathArena/hmmt_feb_2025", split="train", files=("hmmt25", "hmmt_feb_2025"))


class BeyondAIME(MathBenchmark):
    """BeyondAIME: 100 problems with whole numbers as answers."""

    name = "beyondaime"
    source = Source("ByteDance-Seed/BeyondAIME", split="test", files=("beyondaime", "BeyondAIME", "test"))
