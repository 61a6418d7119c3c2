"""T and P on the same completion with and without a command: what a command does, without the chance of sampling.

The completion is each prompt's first text without a command, so this says nothing of the texts that commands lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from autodeco.control.measurement.cases import AGAIN, PLAIN, Case
from autodeco.errors import DataError
from autodeco.files import append_jsonl
from autodeco.generation import TRACED, teacher_forced_trace
from autodeco.rollouts.sampler import encode

COMPLETION = "completion_ids"  # of rows without a command: the tokens that are read again under every command


def forced_cases(cases: Sequence[Case]) -> list[int]:
    """Places of the cases that are read; without a command one of them is enough, as nothing is drawn."""
    return [index for index, case in enumerate(cases) if case.condition != AGAIN]


def completions(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Token ids of each prompt's first text without a command, by the prompt's id.

    Raises:
        DataError: a row has none.
    """
    found: dict[str, list[int]] = {}
    for row in rows:
        if row["condition"] == PLAIN and row["sample"] == 0:
            if COMPLETION not in row:
                raise DataError(
                    f"the text of '{row['problem']}' was filed without its token ids, by an earlier version, so it "
                    f"cannot be read under commands. Choose another output folder."
                )
            found[row["problem"]] = row[COMPLETION]
    return found


def read_under_commands(
    model: Any,
    tokenizer: Any,
    cases: Sequence[Case],
    missing: Sequence[int],
    of_prompts: Mapping[str, Sequence[int]],
    path: Path,
    on_row: Callable[[], None],
) -> None:
    """Reads each prompt's completion after its prompt with a command, a row each.

    Args:
        model: with heads.
        tokenizer: of its base.
        cases: all of them.
        missing: places of those that are still to be read.
        of_prompts: of :func:`completions`.
        path: the file that rows are appended to: the case, and means of T, P and entropy over the completion.
        on_row: called after each.
    """
    for index in missing:
        case = cases[index]
        prompt, completion = encode(tokenizer, case.messages), of_prompts[case.problem]
        sequence = torch.tensor([[*prompt, *completion]], device=model.device)
        prompt_mask = torch.ones_like(sequence[:, : len(prompt)])
        values = teacher_forced_trace(model, sequence, prompt_mask, len(prompt))
        means = {f"mean_{name}": float(own.double().mean()) for name, own in zip(TRACED, values, strict=True)}
        append_jsonl(path, [{"case": index, **case.record(), "tokens": len(completion), **means}])
        on_row()
