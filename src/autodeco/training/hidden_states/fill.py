"""Filling a store: the frozen base runs over rows that are not in it yet, a shard at a time."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from autodeco.files import check_space
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.objectives.eager import IGNORED
from autodeco.training.batches import collate, neighbours
from autodeco.training.hidden_states.store import HiddenStateStore, RowStates
from autodeco.training.tokenize import TokenizedRow

_BYTES_PER_VALUE = 2  # bfloat16
# A shard is written once it is this large, or this long after the last one: what a kill can lose.
_SHARD_BYTES = 256_000_000
_SHARD_SECONDS = 60.0
# Tokens of a forward pass. Rows of similar place in the data are padded together.
_BATCH_TOKENS = 4096


def estimated_bytes(rows: list[TokenizedRow], hidden_size: int, *, prompts: bool = False) -> int:
    """Size on disk of a store of these rows, with whole prompts or without."""
    targets = sum(len(row.input_ids) - row.prompt_length for row in rows)
    states = sum(len(row.input_ids) for row in rows) if prompts else targets
    return states * hidden_size * _BYTES_PER_VALUE + 4 * targets + 4 * len(rows) * (2 if prompts else 1)


def fill_store(
    store: HiddenStateStore,
    model: AutoDecoForCausalLM,
    rows: list[TokenizedRow],
    *,
    repair: bool = False,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Computes and stores the hidden states of all rows that are not stored yet. Can be stopped at any moment.

    Args:
        store: checked against the data by the caller, unless ``repair``.
        model: whose base runs.
        rows: all of the data, in order.
        repair: first compute missing and damaged shards again.
        on_row: called with the number of rows stored and their total (progress).

    Raises:
        RunFolderError: the disk has not enough room for the rest, or is full.
    """
    identity = store.identity
    states_of = functools.partial(_states, model, identity.prompts)
    if repair:
        starts = [sum(shard.rows for shard in store.shards[:index]) for index in range(len(store.shards))]
        for index in store.broken_shards():
            own = rows[starts[index] : starts[index] + store.shards[index].rows]
            store.write(own, [states for batch in _batches(own) for states in states_of(batch)], at=index)
    missing = rows[store.rows :]
    needed = estimated_bytes(missing, identity.hidden_size, prompts=identity.prompts)
    check_space(store.folder, needed, "storing hidden states")
    total, written_at = len(rows), time.monotonic()
    pending: list[tuple[TokenizedRow, RowStates]] = []

    def write_pending() -> None:
        own_rows, states = (list(column) for column in zip(*pending, strict=True))
        store.write(own_rows, states)
        pending.clear()

    for batch in _batches(missing):
        pending.extend(zip(batch, states_of(batch), strict=True))
        size = estimated_bytes([row for row, _ in pending], identity.hidden_size, prompts=identity.prompts)
        if size >= _SHARD_BYTES or time.monotonic() - written_at >= _SHARD_SECONDS:
            write_pending()
            written_at = time.monotonic()
        on_row(store.rows + len(pending), total)
    if pending:
        write_pending()


def _batches(rows: list[TokenizedRow]) -> list[list[TokenizedRow]]:
    batches = neighbours([len(row.input_ids) for row in rows], _BATCH_TOKENS)
    return [[rows[index] for index in batch] for batch in batches]


def _states(model: AutoDecoForCausalLM, prompts: bool, rows: list[TokenizedRow]) -> list[RowStates]:
    examples = [
        {"input_ids": row.input_ids, "prompt_length": row.prompt_length, "row": index} for index, row in enumerate(rows)
    ]
    batch = collate(examples, pad_token_id=0)
    device = model.get_input_embeddings().weight.device
    computed = model.both_states(batch["input_ids"].to(device), batch["attention_mask"].to(device))
    hidden, of_prompts = (states.bfloat16().cpu() for states in computed)
    next_labels = batch["labels"][:, 1:]
    counted = next_labels != IGNORED
    return [
        RowStates(
            hidden[index, :-1][counted[index]],
            next_labels[index][counted[index]].int(),
            of_prompts[index, : row.prompt_length] if prompts else None,
        )
        for index, row in enumerate(rows)
    ]
