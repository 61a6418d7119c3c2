"""IFEval (Zhou et al., arXiv 2311.07911): 541 prompts with instructions that a program can check.

Four published measures: strict or loose, for the prompt (all its instructions) or for each instruction. A completion is
right here if it is so strictly and for the whole prompt; the other three are in the verdict's ``details``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from autodeco.errors import DataError, MissingDependencyError
from autodeco.tasks.base import Example, Verdict
from autodeco.tasks.benchmarks.base import Benchmark
from autodeco.tasks.benchmarks.ifeval_checks import CHECKS
from autodeco.tasks.benchmarks.ifeval_text import sentence_model
from autodeco.tasks.benchmarks.rows import Row, Source, field


class IFEval(Benchmark):
    """IFEval.

    Raises:
        MissingDependencyError: langdetect or nltk is not installed.
    """

    name = "ifeval"
    source = Source("google/IFEval", split="train", files=("ifeval", "ifeval_input_data", "input_data"))

    def __init__(self, data: str | Path | None = None) -> None:
        for package in ("langdetect", "nltk"):
            if importlib.util.find_spec(package) is None:
                raise MissingDependencyError(
                    f"task 'ifeval' needs {package}, which is not installed. Install it with: "
                    'pip install "autodeco[tasks]"'
                )
        super().__init__(data)

    def example(self, row: Row, where: str) -> Example:
        """The prompt as it is; its instructions and their arguments as metadata."""
        prompt, key = str(field(row, ["prompt"], where)), field(row, ["key"], where)
        names, given = field(row, ["instruction_id_list"], where), field(row, ["kwargs"], where)
        unknown = sorted(set(names) - CHECKS.keys())
        if unknown or len(names) != len(given):
            raise DataError(f"{where}: instructions {', '.join(unknown) or 'and kwargs'} do not belong to IFEval.")
        # The hub's copy names every argument of every instruction, most of them None.
        arguments = [{name: value for name, value in one.items() if value is not None} for one in given]
        metadata = {"instructions": list(names), "arguments": arguments}
        return Example(f"ifeval-{key}", [{"role": "user", "content": prompt}], "", metadata)

    def final_answer(self, example: Example, completion: str) -> str | None:
        """None: responses are not voted on."""
        return None

    def verify(self, example: Example, completion: str) -> bool:
        """Whether all instructions are followed, strictly."""
        return all(follows(example, completion))

    def check(self, example: Example, completion: str) -> Verdict:
        """Strict for the prompt; ``details`` hold all four measures, those of instructions as lists in their order."""
        strict, loose = follows(example, completion), follows_loosely(example, completion)
        details = {
            "prompt_strict": all(strict),
            "prompt_loose": all(loose),
            "instruction_strict": strict,
            "instruction_loose": loose,
        }
        return Verdict(all(strict), None, details)

    def fingerprint(self) -> dict[str, Any]:
        """The problems, and how sentences are counted."""
        return {**super().fingerprint(), "sentences": sentence_model()}


def follows(example: Example, response: str) -> list[bool]:
    """For each instruction, whether the response follows it as it stands; an empty one follows none."""
    instructions = zip(example.metadata["instructions"], example.metadata["arguments"], strict=True)
    return [bool(response.strip()) and CHECKS[name](response, given) for name, given in instructions]


def follows_loosely(example: Example, response: str) -> list[bool]:
    """For each instruction, whether any variant does: without its first line, last line, both; without asterisks."""
    lines = response.split("\n")
    cut = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    variants = [follows(example, variant) for text in cut for variant in (text, text.replace("*", ""))]
    return [any(found) for found in zip(*variants, strict=True)]
