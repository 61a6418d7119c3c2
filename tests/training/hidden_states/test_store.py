"""The hidden-state store: what streaming would compute, kept whole through kills, changes and damage."""

import dataclasses
import json
import shutil

import pytest
import torch
from tests.conftest import tiny_llama

from autodeco import AutoDecoForCausalLM
from autodeco.errors import RunFolderError, StoreError
from autodeco.training.hidden_states import (
    HiddenStateStore,
    StoredDataset,
    StoreIdentity,
    collate_stored,
    estimated_bytes,
    fill,
    fill_store,
)
from autodeco.training.tokenize import TokenizedRow

IDENTITY = StoreIdentity("tiny", None, "0", "float32", "t", "c", 32)


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    lengths = [9, 5, 12, 7, 3, 10, 8]
    return [
        TokenizedRow(f"row {n}", torch.randint(3, 128, (length,), generator=generator).tolist(), n % 3)
        for n, length in enumerate(lengths)
    ]


@pytest.fixture
def small_shards(monkeypatch):
    """A shard after every batch, and at most two rows a batch."""
    monkeypatch.setattr(fill, "_SHARD_BYTES", 1)
    monkeypatch.setattr(fill, "_BATCH_TOKENS", 24)


def open_store(folder, identity=IDENTITY):
    return HiddenStateStore(folder, identity)


@pytest.fixture
def filled(model):
    def fill_folder(folder, rows):
        store = open_store(folder)
        fill_store(store, model, rows)
        return store

    return fill_folder


def test_states_and_targets_are_those_of_each_row_alone(tmp_path, rows, filled, model, small_shards):
    store = filled(tmp_path, rows)
    dataset = StoredDataset(store)
    assert len(dataset) == len(rows)
    assert len(store.shards) > 2
    for index in (4, 0, 6, 2, 5, 1, 3):
        row, found = rows[index], dataset[index]
        first = max(1, row.prompt_length)
        expected = model.lm_head_inputs(torch.tensor([row.input_ids]))[0, first - 1 : -1]
        torch.testing.assert_close(found["hidden_states"].float(), expected, rtol=1e-2, atol=1e-2)
        assert found["targets"].tolist() == row.input_ids[first:]
        assert found["row"] == index


def test_batches_are_as_objectives_take_them(tmp_path, rows, filled, model, small_shards):
    dataset = StoredDataset(filled(tmp_path, rows))
    batch = collate_stored([dataset[2], dataset[4]])
    assert batch["hidden_states"].shape[:2] == batch["labels"].shape == (2, 11)
    assert batch["labels"][1].tolist() == [-100, *rows[4].input_ids[1:], *[-100] * 8]
    assert batch["row"].tolist() == [2, 4]
    assert batch["row_weights"].tolist() == [1, 1]


def test_one_store_serves_rows_of_other_weights(tmp_path, rows, filled, model):
    store = filled(tmp_path, rows)
    weighted = [dataclasses.replace(row, weight=index - 3.0) for index, row in enumerate(rows)]
    store.check(weighted)
    dataset = StoredDataset(store, [row.weight for row in weighted])
    assert collate_stored([dataset[5], dataset[0]])["row_weights"].tolist() == [2, -3]


def test_estimate_is_the_size_on_disk(tmp_path, rows, filled, model):
    store = filled(tmp_path, rows)
    size = sum((tmp_path / shard.file).stat().st_size for shard in store.shards)
    assert 0 <= size - estimated_bytes(rows[:1], 32) - estimated_bytes(rows[1:], 32) < 600 * len(store.shards)


def test_killed_and_filled_on_to_the_same_store(tmp_path, rows, filled, model, small_shards, monkeypatch):
    whole = filled(tmp_path / "whole", rows)
    calls = []
    original = fill._states

    def killed(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(fill, "_states", killed)
    with pytest.raises(KeyboardInterrupt):
        fill_store(open_store(tmp_path / "killed"), model, rows)
    again = open_store(tmp_path / "killed")
    assert 0 < again.rows < len(rows)
    again.check(rows)
    seen = []
    fill_store(again, model, rows, on_row=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(rows), len(rows))
    assert [shard.sha256 for shard in again.shards] == [shard.sha256 for shard in whole.shards]


def test_rows_can_be_added_at_the_end(tmp_path, rows, filled, model, small_shards):
    filled(tmp_path, rows[:4])
    store = open_store(tmp_path)
    store.check(rows)
    fill_store(store, model, rows)
    assert store.rows == len(rows)
    assert len(StoredDataset(store)) == len(rows)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(StoreIdentity)])
def test_a_store_of_something_else_is_refused_with_the_reason(tmp_path, rows, filled, model, field):
    filled(tmp_path, rows)
    other = dataclasses.replace(IDENTITY, **{field: 99})
    with pytest.raises(StoreError, match=f"{field} was .*, is 99"):
        open_store(tmp_path, other)


def test_changed_data_is_refused_with_the_rows(tmp_path, rows, filled, model, small_shards):
    filled(tmp_path, rows)
    changed = [*rows[:3], dataclasses.replace(rows[3], prompt_length=2), *rows[4:]]
    with pytest.raises(StoreError, match=r"rows [34] to"):
        open_store(tmp_path).check(changed)


@pytest.mark.parametrize("damage", ["one bit", "cut", "gone"])
def test_a_damaged_shard_is_named_and_repaired(tmp_path, rows, filled, model, small_shards, damage):
    store = filled(tmp_path, rows)
    expected = [shard.sha256 for shard in store.shards]
    path = tmp_path / store.shards[1].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "one bit" else content[:100])
    with pytest.raises(StoreError, match=f"{path.name} is (damaged|missing).*--repair-store"):
        open_store(tmp_path).check(rows)
    again = open_store(tmp_path)
    fill_store(again, model, rows, repair=True)
    again.check(rows)
    assert [shard.sha256 for shard in again.shards] == expected


def test_a_missing_index_is_named(tmp_path, rows, filled, model):
    filled(tmp_path, rows)
    (tmp_path / "store.json").unlink()
    with pytest.raises(StoreError, match=r"not its index store\.json"):
        open_store(tmp_path)


def test_a_damaged_index_is_named(tmp_path, rows, filled, model):
    filled(tmp_path, rows)
    (tmp_path / "store.json").write_text(json.dumps({"format_version": 1}))
    with pytest.raises(StoreError, match=r"store\.json is damaged"):
        open_store(tmp_path)


def test_a_disk_too_small_is_refused_before_anything_is_computed(tmp_path, rows, filled, model, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    monkeypatch.setattr(fill, "_states", lambda *_: pytest.fail("computed"))
    with pytest.raises(RunFolderError, match="storing hidden states needs"):
        fill_store(open_store(tmp_path), model, rows)


@pytest.mark.parametrize("layer", [0, 1])
def test_with_prompts_a_stored_row_is_what_the_base_has_just_computed(tmp_path, small_shards, layer):
    model = AutoDecoForCausalLM.from_base(tiny_llama(), prompt_summary=True, prompt_layer=layer)
    generator = torch.Generator().manual_seed(0)
    rows = [
        TokenizedRow(f"row {n}", torch.randint(3, 128, (length,), generator=generator).tolist(), prompt)
        for n, (length, prompt) in enumerate([(9, 4), (5, 1), (12, 11), (7, 2)])
    ]
    identity = dataclasses.replace(IDENTITY, prompts=True, prompt_layer=layer)
    store = open_store(tmp_path, identity)
    fill_store(store, model, rows)
    again = open_store(tmp_path, identity)
    again.check(rows)
    assert again.positions == sum(len(row.input_ids) - row.prompt_length for row in rows)
    dataset = StoredDataset(again)
    chosen = [2, 0, 3, 1]
    batch = collate_stored([dataset[index] for index in chosen])
    for place, index in enumerate(chosen):
        ids, length = torch.tensor([rows[index].input_ids]), rows[index].prompt_length
        states = model.base_model(ids, output_hidden_states=True).hidden_states
        found, targets = batch["hidden_states"][place].float(), ids[0, length:]
        torch.testing.assert_close(found[: len(targets)], states[-1][0, length - 1 : -1], rtol=1e-2, atol=1e-2)
        assert batch["labels"][place, 1 : len(targets) + 1].equal(targets)
        assert (batch["labels"][place] != -100).sum() == len(targets)
        assert batch["prompt_mask"][place].sum() == length
        found = batch["prompt_states"][place, :length].float()
        torch.testing.assert_close(found, states[layer or -1][0, :length], rtol=1e-2, atol=1e-2)
    size = sum((tmp_path / shard.file).stat().st_size for shard in again.shards)
    assert 0 <= size - estimated_bytes(rows, 32, prompts=True) < 600 * len(again.shards)


def test_a_store_with_prompts_is_another_one_and_old_stores_have_none(tmp_path, rows, filled):
    filled(tmp_path, rows)
    with pytest.raises(StoreError, match="prompts was False, is True"):
        open_store(tmp_path, dataclasses.replace(IDENTITY, prompts=True))
    index = tmp_path / "store.json"
    record = json.loads(index.read_text())
    del record["identity"]["prompts"], record["identity"]["prompt_layer"]
    index.write_text(json.dumps(record))
    open_store(tmp_path).check(rows)
