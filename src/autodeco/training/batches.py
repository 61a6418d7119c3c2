"""Batches: tokenised rows, padded on the right, with labels on the completion only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from autodeco.objectives.eager import IGNORED
from autodeco.training.tokenize import TokenizedRow


class RowDataset(Dataset[dict[str, Any]]):
    """Tokenised rows by index."""

    def __init__(self, rows: list[TokenizedRow]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        return {"input_ids": row.input_ids, "prompt_length": row.prompt_length, "weight": row.weight, "row": index}


def collate(examples: list[dict[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
    """Pads examples into a batch.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels`` (-100 on prompt and padding), each ``[B, S]``; ``row`` ``[B]``,
        the index of each example in the data; ``row_weights`` ``[B]``, 1 of examples that name none.
    """
    length = max(len(example["input_ids"]) for example in examples)
    shape = (len(examples), length)
    input_ids = torch.full(shape, pad_token_id)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for index, example in enumerate(examples):
        ids = torch.tensor(example["input_ids"])
        input_ids[index, : len(ids)] = ids
        attention_mask[index, : len(ids)] = 1
        labels[index, example["prompt_length"] : len(ids)] = ids[example["prompt_length"] :]
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels, **rows_of(examples)}


def rows_of(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """``row`` and ``row_weights`` of a batch, ``[B]`` each; the weight is 1 of examples that name none."""
    return {
        "row": torch.tensor([example["row"] for example in examples]),
        "row_weights": torch.tensor([float(example.get("weight", 1.0)) for example in examples]),
    }


def neighbours(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Divides rows, in their order, into batches of at most so many tokens with padding; a longer row is alone.

    Returns:
        The places of each batch's rows.
    """
    batches: list[list[int]] = []
    longest = 0
    for place, length in enumerate(lengths):
        longest = max(longest, length)
        if batches and longest * (len(batches[-1]) + 1) <= most_tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
            longest = length
    return batches
