"""Teacher-forced tokens as the diagnosis takes them, and those of a hidden-state store. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from autodeco.errors import DataError
from autodeco.heads import DecodingHeads
from autodeco.training.hidden_states import HiddenStateStore, StoredDataset

_STORED_CHUNK = 4096


class Chunk(NamedTuple):
    """Some teacher-forced tokens.

    Attributes:
        hidden_states: ``[N, H]``, the input of ``lm_head``.
        targets: ``[N]``, the token that follows each.
        trajectories: ``[N]``, which trajectory each is of: tokens of one are not independent.
        summary: ``[N, 2 m]``, of each one's prompt, for heads that see it.
    """

    hidden_states: Tensor
    targets: Tensor
    trajectories: Tensor
    summary: Tensor | None = None

    def at(self, span: slice) -> Chunk:
        """Some of the tokens."""
        summary = None if self.summary is None else self.summary[span]
        return Chunk(self.hidden_states[span], self.targets[span], self.trajectories[span], summary)

    @classmethod
    def joined(cls, chunks: Sequence[Chunk]) -> Chunk:
        """The tokens of several; either all have a summary or none has."""
        summaries = [chunk.summary for chunk in chunks if chunk.summary is not None]
        return cls(
            torch.cat([chunk.hidden_states for chunk in chunks]),
            torch.cat([chunk.targets for chunk in chunks]),
            torch.cat([chunk.trajectories for chunk in chunks]),
            torch.cat(summaries) if summaries else None,
        )


class StoredChunks:
    """Rows of a store, some thousand tokens together; each is a trajectory. Can be iterated again.

    Args:
        store: filled.
        heads: that are diagnosed.
        rows: only these; ``None`` for all.

    Raises:
        DataError: the heads see a summary of the prompt, and the store holds no prompts.
    """

    def __init__(self, store: HiddenStateStore, heads: DecodingHeads, rows: Sequence[int] | None = None) -> None:
        needed, found = heads.config.prompt_layer, store.identity.prompt_layer
        if heads.config.prompt_summary and (not store.identity.prompts or needed != found):
            held = (
                f"hold prompts after layer {found} (0: the last)"
                if store.identity.prompts
                else "are of completions alone"
            )
            raise DataError(
                f"these heads see a summary of the prompt (prompt_summary, prompt_layer {needed}), and the hidden "
                f"states in {store.folder} {held}. Give the store of a training run with those settings."
            )
        self._dataset = StoredDataset(store)
        self._heads = heads
        self.rows = list(range(len(self._dataset)) if rows is None else rows)

    def __iter__(self) -> Iterator[Chunk]:
        pending: list[Chunk] = []
        for row in self.rows:
            pending.append(self._chunk(row))
            if sum(len(chunk.targets) for chunk in pending) >= _STORED_CHUNK:
                yield Chunk.joined(pending)
                pending = []
        if pending:
            yield Chunk.joined(pending)

    def _chunk(self, row: int) -> Chunk:
        example = self._dataset[row]
        states, targets = example["hidden_states"], example["targets"]
        beside = None
        if self._heads.config.prompt_summary:
            prompt = example["prompt_states"].unsqueeze(0)
            summary = self._heads.summarise_prompt(prompt, torch.ones(prompt.shape[:2]))
            assert summary is not None
            beside = summary.expand(len(targets), -1)
        return Chunk(states, targets, torch.full((len(targets),), row), beside)
