"""Multiple-choice benchmarks: a question, lettered options, a letter as answer. Shared by GPQA and MMLU-Pro."""

from __future__ import annotations

from collections.abc import Sequence

from autodeco.errors import DataError
from autodeco.tasks.answers import extract_choice
from autodeco.tasks.base import Example
from autodeco.tasks.benchmarks.base import Benchmark

LETTERS = "ABCDEFGHIJ"


class ChoiceBenchmark(Benchmark):
    """Verification by letter; see :func:`autodeco.tasks.answers.extract_choice`."""

    def final_answer(self, example: Example, completion: str) -> str | None:
        """The letter that the completion chooses."""
        return extract_choice(completion)

    def verify(self, example: Example, completion: str) -> bool:
        """Whether it is the right one."""
        return extract_choice(completion) == example.answer


def lettered(options: Sequence[str], where: str, mark: str) -> str:
    """The options, one a line, each after its letter.

    Raises:
        DataError: fewer than two options, or more than there are letters.
    """
    if not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"{where}: 2 to {len(LETTERS)} options are needed, found {len(options)}.")
    return "\n".join(f"{letter}{mark} {option}" for letter, option in zip(LETTERS, options, strict=False))
