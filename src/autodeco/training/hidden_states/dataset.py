"""Training from a store: rows in any order, read where they lie, so that memory holds a batch and no more."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from autodeco.objectives.eager import IGNORED
from autodeco.training.batches import rows_of
from autodeco.training.hidden_states.store import HiddenStateStore

_OPEN_SHARDS = 16


class StoredDataset(Dataset[dict[str, Any]]):
    """Rows of a store by index.

    Shards are memory-mapped and a row is one contiguous piece of its shard, so a sampler may shuffle over all of them.

    Args:
        store: filled.
        weights: of each row; ``None`` for 1. They are not stored: one store serves runs that weigh rows differently.
    """

    def __init__(self, store: HiddenStateStore, weights: Sequence[float] | None = None) -> None:
        self._store = store
        self._weights = weights
        self._first_rows = [0, *accumulate(shard.rows for shard in store.shards)]
        self._shard = functools.lru_cache(_OPEN_SHARDS)(self._open)

    def __len__(self) -> int:
        return self._first_rows[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = bisect_right(self._first_rows, index) - 1
        within = index - self._first_rows[number]
        stored = {
            name: column[starts[within] : starts[within + 1]] for name, (column, starts) in self._shard(number).items()
        }
        weight = 1.0 if self._weights is None else self._weights[index]
        return {**stored, "weight": weight, "row": index}

    def _open(self, number: int) -> dict[str, tuple[Any, list[int]]]:
        """A shard's columns, to be sliced, each with the places at which its rows begin."""
        shard = self._store.open_shard(number)

        def starts_of(lengths: str) -> list[int]:
            return [0, *accumulate(shard.get_tensor(lengths).tolist())]

        starts = starts_of("lengths")
        columns = {name: (shard.get_slice(name), starts) for name in ("hidden_states", "targets")}
        if self._store.identity.prompts:
            columns["prompt_states"] = (shard.get_slice("prompt_states"), starts_of("prompt_lengths"))
        return columns


def collate_stored(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pads stored rows into a batch.

    Returns:
        ``hidden_states`` ``[B, S, H]``, ``labels`` ``[B, S]`` as objectives take them (the label at position i + 1 is
        the target of the state at i; -100 elsewhere), ``row`` ``[B]`` and ``row_weights`` ``[B]``. Of rows that were
        stored with their prompts, ``prompt_states`` ``[B, P, H]`` and ``prompt_mask`` ``[B, P]``, too.
    """
    hidden_states, _ = _padded([example["hidden_states"] for example in examples], extra=1)
    labels = torch.full(hidden_states.shape[:2], IGNORED)
    for index, example in enumerate(examples):
        labels[index, 1 : len(example["targets"]) + 1] = example["targets"]
    batch = {"hidden_states": hidden_states, "labels": labels, **rows_of(examples)}
    if "prompt_states" in examples[0]:
        batch["prompt_states"], batch["prompt_mask"] = _padded([example["prompt_states"] for example in examples])
    return batch


def _padded(rows: Sequence[Tensor], extra: int = 0) -> tuple[Tensor, Tensor]:
    """Rows ``[n, H]`` as ``[B, S, H]``, ``S`` the longest and ``extra`` more; and where they are, ``[B, S]``."""
    lengths = torch.tensor([len(row) for row in rows])
    length = int(lengths.max()) + extra
    padded = torch.zeros(len(rows), length, rows[0].shape[-1], dtype=rows[0].dtype)
    for own, row in zip(padded, rows, strict=True):
        own[: len(row)] = row
    return padded, torch.arange(length) < lengths.unsqueeze(1)
