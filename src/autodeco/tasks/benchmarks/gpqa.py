"""GPQA-Diamond (Rein et al., arXiv 2311.12022): 198 graduate-level science questions with four options.

On the hub it is behind a form, so that it stays out of training data: accept its terms and log in (``hf auth login``).
"""

from __future__ import annotations

import random

from autodeco.tasks.base import Example, prompt_id
from autodeco.tasks.benchmarks.choices import LETTERS, ChoiceBenchmark, lettered
from autodeco.tasks.benchmarks.rows import Row, Source, field

_PROMPT = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering.\n\n"
    "{question}\n\n{options}"
)
_WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


class GPQADiamond(ChoiceBenchmark):
    """GPQA-Diamond. The right option is published first; where it stands here is drawn by a hash of the question."""

    name = "gpqa-diamond"
    source = Source(
        "Idavidrein/gpqa",
        "gpqa_diamond",
        "train",
        files=("gpqa_diamond", "gpqa-diamond"),
        remark="Accept its terms on the hub, then: hf auth login.",
    )

    def example(self, row: Row, where: str) -> Example:
        """The question with its options in an order that is the same in every run."""
        question = str(field(row, ["Question", "question"], where)).strip()
        right = str(field(row, ["Correct Answer"], where)).strip()
        options = [right, *(str(field(row, [name], where)).strip() for name in _WRONG)]
        order = list(range(4))
        random.Random(f"{self.name}:{question}").shuffle(order)
        text = _PROMPT.format(question=question, options=lettered([options[i] for i in order], where, ")"))
        letter = LETTERS[order.index(0)]
        return Example(f"{self.name}-{prompt_id(question)}", [{"role": "user", "content": text}], letter)
