"""Loading base models: nothing random, nothing unsaid, and the user's own name for them kept."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import load_base
from autodeco.errors import CheckpointError, ModelNotFoundError
from tests.checkpoint.conftest import INPUT_IDS, edit_json
from tests.conftest import tiny_llama


def test_the_name_that_was_typed_is_kept(base_folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(base_folder.parent)
    model = load_base("base")
    assert model.config._name_or_path == model.name_or_path == "base"
    assert AutoDecoForCausalLM.from_base("base").autodeco_config.base_model_name_or_path == "base"


def test_options_reach_transformers(base_folder: Path) -> None:
    model = load_base(base_folder, dtype=torch.bfloat16, attn_implementation="eager")
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "no-such-model"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(
        ModelNotFoundError, match=rf"'{name}' was not found. Tried: a local folder .* hub .*hf auth login"
    ):
        load_base(name)


def test_absent_path(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="was not found"):
        load_base(tmp_path / "absent" / "model")


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no config.json"):
        load_base(tmp_path)


def test_heads_given_as_the_base(tmp_path: Path, model: AutoDecoForCausalLM) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds decoding heads.*from_pretrained"):
        load_base(tmp_path)


def test_missing_weights_are_an_error_and_not_random(base_folder: Path) -> None:
    path = base_folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights .* would be random \(model.layers.1.mlp.up_proj.weight\)"):
        load_base(base_folder)


def test_superfluous_weights_are_said(base_folder: Path, caplog) -> None:
    path = base_folder / "model.safetensors"
    save_file({**load_file(path), "model.layers.7.extra": torch.zeros(2)}, path, metadata={"format": "pt"})
    with caplog.at_level(logging.WARNING):
        load_base(base_folder)
    assert "model.layers.7.extra" in caplog.text
    assert "LOAD REPORT" not in caplog.text


def test_weights_that_do_not_fit_the_configuration(base_folder: Path) -> None:
    edit_json(base_folder / "config.json", intermediate_size=48)
    with pytest.raises(CheckpointError, match=r"do not fit its config.json"):
        load_base(base_folder)


def test_truncated_weights_name_the_file(base_folder: Path) -> None:
    path = base_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model.safetensors is cut off"):
        load_base(base_folder)


def test_missing_shard(sharded_base: Path) -> None:
    next(iter(sharded_base.glob("model-00002*"))).unlink()
    with pytest.raises(CheckpointError, match="model-00002"):
        load_base(sharded_base)


def test_unknown_architecture(base_folder: Path) -> None:
    edit_json(base_folder / "config.json", model_type="no-such-type")
    with pytest.raises(CheckpointError, match="no-such-type"):
        load_base(base_folder)


@pytest.mark.parametrize("tied", [False, True])
def test_tied_and_untied_embeddings(tmp_path: Path, tied: bool) -> None:
    model = tiny_llama(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    loaded = load_base(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(INPUT_IDS).logits, model(INPUT_IDS).logits)
