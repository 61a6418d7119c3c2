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
        states, targets = (column[starts[within] : starts[within + 1]] for column, starts in self._shard(number))
        weight = 1.0 if self._weights is None else self._weights[index]
        return {"hidden_states": states, "targets": targets, "weight": weight, "row": index}

    def _open(self, number: int) -> tuple[tuple[Any, list[int]], tuple[Any, list[int]]]:
        """A shard's states and targets, to be sliced, each with the places at which its rows begin."""
        shard = self._store.open_shard(number)
        lengths = shard.get_tensor("lengths")
        prompts = shard.get_tensor("prompt_lengths") if self._store.identity.prompts else torch.zeros_like(lengths)
        starts_of_states, starts = ([0, *accumulate(counts.tolist())] for counts in (prompts + lengths, lengths))
        return (shard.get_slice("hidden_states"), starts_of_states), (shard.get_slice("targets"), starts)


def collate_stored(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pads stored rows into a batch.

    Returns:
        ``hidden_states`` ``[B, S, H]``, ``labels`` ``[B, S]`` as objectives take them (the label at position i + 1 is
        the target of the state at i; -100 elsewhere), ``row`` ``[B]`` and ``row_weights`` ``[B]``. Rows that were
        stored with their prompts begin with them, as rows that the base has just run over do.
    """
    length = max(len(example["hidden_states"]) for example in examples) + 1
    first = examples[0]["hidden_states"]
    hidden_states = torch.zeros(len(examples), length, first.shape[-1], dtype=first.dtype)
    labels = torch.full((len(examples), length), IGNORED)
    for index, example in enumerate(examples):
        count, completion = len(example["hidden_states"]), len(example["targets"])
        hidden_states[index, :count] = example["hidden_states"]
        labels[index, count - completion + 1 : count + 1] = example["targets"]
    return {"hidden_states": hidden_states, "labels": labels, **rows_of(examples)}
