"""GSM8K (Cobbe et al., arXiv 2110.14168): grade-school word problems, with a training split."""

from __future__ import annotations

import dataclasses

from autodeco.errors import DataError
from autodeco.tasks.answers import extract_number, final_answer, same_number
from autodeco.tasks.base import Example, prompt_id, split_of
from autodeco.tasks.benchmarks.base import Benchmark
from autodeco.tasks.benchmarks.rows import Row, Source, field, read_rows

_PROMPT = "{}\nThink step by step, and end with: The answer is <number>."


class GSM8K(Benchmark):
    """GSM8K: 7,473 training problems, of which a hash sets a fifth apart for validation, and 1,319 test problems.

    Args:
        data: a folder that holds ``train`` and ``test`` (or ``gsm8k_train``, ...) as JSONL, or one file for all splits
            that are asked for.
    """

    name = "gsm8k"
    source = Source("openai/gsm8k", "main", "test")

    def rows(self, split: str) -> list[Row]:
        """The published rows; a hash of the question divides the published training split into train and validation."""
        published = "test" if split == "test" else "train"
        files = (f"gsm8k_{published}", published)
        if self._data is not None and self._data.is_file():
            raise DataError(
                f"task 'gsm8k' has two files, and {self._data} is one. With --data name the folder that holds them as "
                f"train.jsonl and test.jsonl."
            )
        rows = read_rows(self.name, dataclasses.replace(self.source, split=published, files=files), self._data)
        if split == "test":
            return rows
        return [row for row in rows if (split_of(str(row.get("question"))) == "validation") == (split == "validation")]

    def example(self, row: Row, where: str) -> Example:
        """The question and a request for the form of the answer."""
        question, solution = str(field(row, ["question"], where)).strip(), str(field(row, ["answer"], where))
        _, mark, answer = solution.rpartition("####")
        if not mark or extract_number(answer) is None:
            raise DataError(f"{where}: 'answer' must end in '#### NUMBER', found {solution[-60:]!r}.")
        messages = [{"role": "user", "content": _PROMPT.format(question)}]
        return Example(f"gsm8k-{prompt_id(question)}", messages, str(extract_number(answer)))

    def final_answer(self, example: Example, completion: str) -> str | None:
        """The completion's final number."""
        return final_answer("number", completion)

    def verify(self, example: Example, completion: str) -> bool:
        """Whether the final number is the right one."""
        return same_number(example.answer, completion)
