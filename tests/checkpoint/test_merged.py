"""Merging and splitting: the base's bytes untouched, the engine's needs met, nothing half-written."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import auto_class, load_heads, load_model, merge, save_heads, split
from autodeco.errors import CheckpointError, ModelNotFoundError, RunFolderError
from tests.checkpoint.conftest import (
    HEAD_NAMES,
    INPUT_IDS,
    all_tensors,
    assert_same_tensors,
    edit_json,
    outputs_of,
)
from tests.conftest import tiny_autodeco


def logits_of(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    with torch.no_grad():
        return model(INPUT_IDS).logits


def test_plain_transformers_loads_the_base(sharded_base: Path, merged_folder: Path) -> None:
    assert torch.equal(logits_of(merged_folder), logits_of(sharded_base))


def test_autodeco_loads_base_and_heads_without_noise(
    sharded_base: Path, heads_folder: Path, merged_folder: Path, caplog, capfd, monkeypatch
) -> None:
    monkeypatch.setattr("autodeco.checkpoint.base.lacks_bfloat16", lambda: False)  # of which it would warn
    with caplog.at_level(logging.WARNING):
        merged = load_model(merged_folder)
    assert caplog.text == ""
    assert "UNEXPECTED" not in "".join(capfd.readouterr())
    for found, expected in zip(outputs_of(merged), outputs_of(load_model(heads_folder)), strict=True):
        assert torch.equal(found, expected)
    assert type(merged).__name__ == "AutoDecoLlamaForCausalLM"


def test_weights_are_linked_and_the_index_is_complete(sharded_base: Path, merged_folder: Path) -> None:
    index = json.loads((merged_folder / "model.safetensors.index.json").read_text())
    shards = sorted(sharded_base.glob("*.safetensors"))
    assert len(shards) > 2
    for path in shards:
        assert (merged_folder / path.name).samefile(path)
    tensors = all_tensors(merged_folder)
    assert index["weight_map"].keys() == tensors.keys() == all_tensors(sharded_base).keys() | HEAD_NAMES
    assert {index["weight_map"][name] for name in HEAD_NAMES} == {"autodeco_heads.safetensors"}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())


@pytest.mark.parametrize("how", ["asked", "other file system"])
def test_weights_are_copied_where_they_cannot_be_linked(
    tmp_path: Path, sharded_base: Path, heads_folder: Path, monkeypatch, how: str
) -> None:
    def cross_device(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if how != "asked":
        monkeypatch.setattr("os.link", cross_device)
    linked = merge(sharded_base, heads_folder, tmp_path / "merged", link=how != "asked")
    assert linked == 0
    for path in sharded_base.glob("*.safetensors"):
        copy = tmp_path / "merged" / path.name
        assert not copy.samefile(path)
        assert copy.read_bytes() == path.read_bytes()


def test_single_file_base(tmp_path: Path, base_folder: Path) -> None:
    model = AutoDecoForCausalLM.from_base(str(base_folder))
    model.save_pretrained(tmp_path / "heads")
    assert merge(base_folder, tmp_path / "heads", tmp_path / "merged") == 1
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {"model.safetensors", "autodeco_heads.safetensors"}
    assert torch.equal(logits_of(tmp_path / "merged"), logits_of(base_folder))
    assert_same_tensors(load_model(tmp_path / "merged").state_dict(), model.state_dict())


def test_configuration(sharded_base: Path, merged_folder: Path) -> None:
    found = json.loads((merged_folder / "config.json").read_text())
    expected = json.loads((sharded_base / "config.json").read_text())
    section = found.pop("autodeco")
    assert found.pop("architectures") == ["AutoDecoLlamaForCausalLM"]
    assert expected.pop("architectures") == ["LlamaForCausalLM"]
    assert found.pop("auto_map") == {"AutoModelForCausalLM": auto_class.REFERENCE}
    assert found == expected
    assert section["base_model_name_or_path"] == str(sharded_base)
    assert section["hidden_size"] == 32


def test_generation_configuration_is_neutral(sharded_base: Path, merged_folder: Path) -> None:
    found = json.loads((merged_folder / "generation_config.json").read_text())
    for name, value in {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}.items():
        assert found[name] == value
    assert found["repetition_penalty"] == 1.1
    before, after = GenerationConfig.from_pretrained(sharded_base), GenerationConfig.from_pretrained(merged_folder)
    assert (after.eos_token_id, after.pad_token_id) == (before.eos_token_id, before.pad_token_id)
    assert before.temperature == 0.6
    assert load_model(merged_folder).generation_config.temperature == 1.0


def test_special_tokens_come_from_the_model_configuration_without_generation_settings(
    tmp_path: Path, sharded_base: Path, heads_folder: Path
) -> None:
    (sharded_base / "generation_config.json").unlink()
    merge(sharded_base, heads_folder, tmp_path / "merged")
    found = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert (found["eos_token_id"], found["pad_token_id"], found["top_k"]) == (2, 0, 0)
    split(tmp_path / "merged", tmp_path / "h", tmp_path / "b")
    assert not (tmp_path / "b" / "generation_config.json").exists()


def test_small_files_come_along_and_other_weights_do_not(sharded_base: Path, merged_folder: Path) -> None:
    names = {path.name for path in merged_folder.iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "LICENSE"} <= names
    assert "pytorch_model.bin" not in names
    assert "with decoding heads" in (merged_folder / "README.md").read_text()
    before, after = AutoTokenizer.from_pretrained(sharded_base), AutoTokenizer.from_pretrained(merged_folder)
    chat = [{"role": "user", "content": "hello"}]
    assert before.apply_chat_template(chat, tokenize=False) == after.apply_chat_template(chat, tokenize=False)


def test_bits_of_the_heads_are_kept(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> None:
    save_heads(load_heads(heads_folder).to(torch.bfloat16), tmp_path / "bf16")
    merge(sharded_base, tmp_path / "bf16", tmp_path / "merged")
    split(tmp_path / "merged", tmp_path / "back")
    for folder in ("merged", "back"):
        assert_same_tensors(
            load_file(tmp_path / folder / "autodeco_heads.safetensors"),
            load_file(tmp_path / "bf16" / "autodeco_heads.safetensors"),
        )
    assert load_heads(tmp_path / "merged").dtype == torch.float32


def test_split_gives_back_heads_and_base(
    tmp_path: Path, sharded_base: Path, heads_folder: Path, merged_folder: Path
) -> None:
    split(merged_folder, tmp_path / "h", tmp_path / "b")
    assert_same_tensors(all_tensors(tmp_path / "h"), all_tensors(heads_folder))
    assert load_heads(tmp_path / "h").config == load_heads(heads_folder).config
    kept = {path.name for path in sharded_base.iterdir()} - {"README.md", "pytorch_model.bin"}
    assert {path.name for path in (tmp_path / "b").iterdir()} == kept
    for name in kept:
        found, expected = (tmp_path / "b" / name), sharded_base / name
        if name.endswith(".json"):
            found_values, expected_values = json.loads(found.read_text()), json.loads(expected.read_text())
            expected_values.get("metadata", {}).pop("total_parameters", None)
            assert found_values == expected_values, name
        else:
            assert found.read_bytes() == expected.read_bytes(), name


def test_recorded_base_is_used_where_none_is_given(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> None:
    merge(None, heads_folder, tmp_path / "merged")
    assert torch.equal(logits_of(tmp_path / "merged"), logits_of(sharded_base))


def test_progress_ends_at_the_total(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> None:
    steps: list[tuple[int, int]] = []

    def keep(done: int, total: int) -> None:
        steps.append((done, total))

    for link in (True, False):
        merge(sharded_base, heads_folder, tmp_path / f"{link}", link=link, progress=keep)
        assert steps == sorted(steps)
        total = sum(path.stat().st_size for path in sharded_base.glob("*.safetensors"))
        assert steps[-1] == (total, total)
        steps.clear()


def test_output_that_exists(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(RunFolderError, match="not empty"):
        merge(sharded_base, heads_folder, tmp_path / "full")
    with pytest.raises(RunFolderError, match="is a file"):
        merge(sharded_base, heads_folder, tmp_path / "full" / "mine.txt")
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"
    (tmp_path / "empty").mkdir()
    merge(sharded_base, heads_folder, tmp_path / "empty")
    assert load_heads(tmp_path / "empty")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_merge_that_fails(
    tmp_path: Path, sharded_base: Path, heads_folder: Path, monkeypatch, error: BaseException
) -> None:
    before = sorted(tmp_path.rglob("*"))
    calls = 0

    def fail_in_the_second_file(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error

    monkeypatch.setattr("autodeco.checkpoint.base_files.copy_file", fail_in_the_second_file)
    expected = RunFolderError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="disk is full" if isinstance(error, OSError) else None):
        merge(sharded_base, heads_folder, tmp_path / "merged", link=False)
    assert calls == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_too_little_space_is_said_before_anything_is_copied(
    tmp_path: Path, sharded_base: Path, heads_folder: Path, monkeypatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10))
    monkeypatch.setattr("autodeco.checkpoint.base_files.copy_file", lambda *_: pytest.fail("copied"))
    with pytest.raises(RunFolderError, match=r"0\.0 GB are free.*needs"):
        merge(sharded_base, heads_folder, tmp_path / "merged", link=False)
    merge(sharded_base, heads_folder, tmp_path / "linked")  # links take no space


@pytest.mark.parametrize(("name", "found", "needed"), [("hidden_size", 64, 32), ("vocab_size", 100, 261)])
def test_sizes_that_differ(tmp_path: Path, sharded_base: Path, name: str, found: int, needed: int) -> None:
    sizes = {"hidden_size": 32, "vocab_size": 261, name: found}
    save_heads(tiny_autodeco(**sizes).decoding_heads, tmp_path / "heads")
    with pytest.raises(CheckpointError, match=rf"autodeco_heads.safetensors.* {found}.*config.json.* {needed}"):
        merge(sharded_base, tmp_path / "heads", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_base_without_safetensors(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> None:
    for path in [*sharded_base.glob("*.safetensors"), *sharded_base.glob("*.index.json")]:
        path.unlink()
    with pytest.raises(CheckpointError, match=r"no safetensors weights. Found: pytorch_model.bin.*save_pretrained"):
        merge(sharded_base, heads_folder, tmp_path / "merged")


def test_base_that_has_heads(tmp_path: Path, heads_folder: Path, merged_folder: Path) -> None:
    for base in (merged_folder, heads_folder):
        with pytest.raises(CheckpointError, match="has decoding heads already"):
            merge(base, heads_folder, tmp_path / "again")


def test_absent_base_and_heads(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="absent"):
        merge(tmp_path / "absent", heads_folder, tmp_path / "merged")
    with pytest.raises(ModelNotFoundError, match="absent"):
        merge(sharded_base, tmp_path / "absent", tmp_path / "merged")


def test_broken_heads_are_not_merged(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> None:
    path = heads_folder / "autodeco_heads.safetensors"
    tensors = load_file(path)
    tensors["temp_head.mlp.2.bias"][0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="NaN"):
        merge(sharded_base, heads_folder, tmp_path / "merged")


def test_truncated_shard(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> None:
    path = sorted(sharded_base.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"{path.name} is cut off"):
        merge(sharded_base, heads_folder, tmp_path / "merged")


def test_index_that_leads_elsewhere(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> None:
    index = sharded_base / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    edit_json(index, weight_map={**weight_map, "lm_head.weight": "../secret.safetensors"})
    with pytest.raises(CheckpointError, match="no plain file name"):
        merge(sharded_base, heads_folder, tmp_path / "merged")
    edit_json(index, weight_map={**weight_map, "one.more": next(iter(weight_map.values()))})
    with pytest.raises(CheckpointError, match=r"lacks the tensor 'one.more'"):
        merge(sharded_base, heads_folder, tmp_path / "merged")


def test_auto_class_decodes_with_the_heads_if_code_is_trusted(merged_folder: Path) -> None:
    expected = load_model(merged_folder, dtype="float32")
    ids = torch.arange(5).unsqueeze(0)
    for loaded in (
        AutoModelForCausalLM.from_pretrained(merged_folder, trust_remote_code=True, dtype="float32"),
        load_model(merged_folder, trust_remote_code=True, dtype="float32"),
    ):
        assert isinstance(loaded, AutoDecoForCausalLM)
        assert torch.equal(loaded(ids).logits, expected(ids).logits)
    assert not isinstance(AutoModelForCausalLM.from_pretrained(merged_folder), AutoDecoForCausalLM)


def test_a_base_with_code_of_its_own_keeps_it() -> None:
    own = {"model_type": "x", "auto_map": {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"}}
    assert auto_class.with_auto_class(own) == own
    assert auto_class.without_auto_class(own) == own
    tokenizer_only = {"model_type": "x", "auto_map": {"AutoTokenizer": "t.T"}}
    assert auto_class.without_auto_class(auto_class.with_auto_class(tokenizer_only)) == tokenizer_only


def test_merged_checkpoint_that_lost_its_heads(merged_folder: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(merged_folder)
    shutil.rmtree(merged_folder)
    plain.save_pretrained(merged_folder)  # Transformers keeps config.json's section, not the tensors
    with pytest.raises(CheckpointError, match="8 head tensors are missing"):
        load_model(merged_folder)


def test_splitting_heads_alone(tmp_path: Path, heads_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no base model to take out"):
        split(heads_folder, tmp_path / "h", tmp_path / "b")


@pytest.mark.real_model
def test_real_model(tmp_path: Path, smollm2: str) -> None:
    base = AutoModelForCausalLM.from_pretrained(smollm2)
    model = AutoDecoForCausalLM.from_base("smollm2-135m")
    assert model.autodeco_config.base_model_name_or_path == "smollm2-135m"
    model.save_pretrained(tmp_path / "heads")
    merge("smollm2-135m", tmp_path / "heads", tmp_path / "merged")
    merged, plain = load_model(tmp_path / "merged"), AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        assert torch.equal(plain(INPUT_IDS).logits, base(INPUT_IDS).logits)
    for found, expected in zip(outputs_of(merged), outputs_of(model), strict=True):
        assert torch.equal(found, expected)
