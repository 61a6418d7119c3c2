"""MMLU-Pro (Wang et al., arXiv 2406.01574): 12,032 questions with up to ten options; and the paper's 100 of them."""

from __future__ import annotations

from autodeco.errors import DataError
from autodeco.tasks.base import Example
from autodeco.tasks.benchmarks.choices import LETTERS, ChoiceBenchmark, lettered
from autodeco.tasks.benchmarks.rows import Row, Source, field

# MMLU-Pro's own request, without its five worked examples.
_PROMPT = (
    "The following is a multiple choice question (with answers) about {category}. Think step by step and then finish "
    'your answer with "the answer is (X)" where X is the correct letter choice.\n\nQuestion:\n{question}\nOptions:\n'
    "{options}\n"
)


class MMLUPro(ChoiceBenchmark):
    """MMLU-Pro, zero-shot."""

    name = "mmlu-pro"
    source = Source("TIGER-Lab/MMLU-Pro", split="test", files=("mmlu_pro", "mmlu-pro", "test"))

    def example(self, row: Row, where: str) -> Example:
        """The question, its options in their published order, and the category as metadata."""
        question, options = str(field(row, ["question"], where)).strip(), field(row, ["options"], where)
        # Early copies fill up to ten options with "N/A".
        options = [str(option) for option in options if option != "N/A"]
        answer, category = str(field(row, ["answer"], where)).strip(), str(row.get("category") or "general knowledge")
        if answer not in LETTERS[: len(options)]:
            raise DataError(
                f"{where}: 'answer' must be a letter of one of the {len(options)} options, found {answer!r}."
            )
        text = _PROMPT.format(category=category, question=question, options=lettered(options, where, "."))
        number = field(row, ["question_id"], where)
        return Example(f"{self.name}-{number}", [{"role": "user", "content": text}], answer, {"category": category})


class MMLUProLite(MMLUPro):
    """The 100 questions of MMLU-Pro that the AutoDeco paper evaluates on, from its authors' repository."""

    name = "mmlu-pro-lite"
    source = Source(
        None,
        files=("mmlu_pro_lite", "mmlu-pro-lite", "MMLU-Pro-100"),
        remark="It is in the paper's repository: git clone https://github.com/Zacks917/AutoDeco, then --data "
        "AutoDeco/eval_data/MMLU-Pro-100.json.",
    )
