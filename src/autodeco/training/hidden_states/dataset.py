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
        states, targets, starts = self._shard(number)
        within = index - self._first_rows[number]
        span = slice(starts[within], starts[within + 1])
        weight = 1.0 if self._weights is None else self._weights[index]
        return {"hidden_states": states[span], "targets": targets[span], "weight": weight, "row": index}

    def _open(self, number: int) -> tuple[Any, Any, list[int]]:
        """A shard's states and targets, to be sliced, and the position at which each row begins."""
        shard = self._store.open_shard(number)
        starts = [0, *accumulate(shard.get_tensor("lengths").tolist())]
        return shard.get_slice("hidden_states"), shard.get_slice("targets"), starts


def collate_stored(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pads stored rows into a batch.

    Returns:
        ``hidden_states`` ``[B, S, H]``, ``labels`` ``[B, S]`` as objectives take them (the label at position i + 1 is
        the target of the state at i; -100 elsewhere), ``row`` ``[B]`` and ``row_weights`` ``[B]``.
    """
    length = max(len(example["targets"]) for example in examples) + 1
    first = examples[0]["hidden_states"]
    hidden_states = torch.zeros(len(examples), length, first.shape[-1], dtype=first.dtype)
    labels = torch.full((len(examples), length), IGNORED)
    for index, example in enumerate(examples):
        count = len(example["targets"])
        hidden_states[index, :count] = example["hidden_states"]
        labels[index, 1 : count + 1] = example["targets"]
    return {"hidden_states": hidden_states, "labels": labels, **rows_of(examples)}
