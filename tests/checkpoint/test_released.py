"""The authors' own checkpoints: loaded to the numbers of their own code, written back as they were."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import convert, inspect, load_heads, load_model, save_heads
from autodeco.errors import CheckpointError
from tests.checkpoint.conftest import all_tensors, assert_same_tensors, edit_json
from tests.conftest import tiny_autodeco, tiny_llama


@pytest.fixture
def released(golden: Path) -> Path:
    return golden / "released_checkpoint_llama"


def copy_of(folder: Path, destination: Path) -> Path:
    destination.mkdir(parents=True)
    for path in folder.iterdir():  # contents only: the golden files are read-only
        (destination / path.name).write_bytes(path.read_bytes())
    return destination


@pytest.mark.parametrize("layout", ["heads", "full"])
def test_numbers_of_the_authors_code(released: Path, layout: str, caplog, capfd) -> None:
    with caplog.at_level(logging.WARNING):
        model = AutoDecoForCausalLM.from_pretrained(released / layout)
    assert caplog.text == ""
    assert "UNEXPECTED" not in "".join(capfd.readouterr())
    expected = load_file(released / "expected.safetensors")
    with torch.no_grad():
        output = model(expected["input_ids"])
    torch.testing.assert_close(output.base_logits, expected["logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.temperature, expected["temperature"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.top_p, expected["top_p"], atol=1e-5, rtol=0)
    assert model.config.model_type == "llama"
    assert not hasattr(model.config, "base_model_type")


@pytest.mark.parametrize("layout", ["heads", "full"])
def test_base_beside_the_checkpoint_is_found(released: Path, layout: str, monkeypatch) -> None:
    monkeypatch.chdir("/")
    assert load_heads(released / layout).config.base_model_name_or_path == str(released / "base")


def test_full_checkpoint_needs_no_base_and_can_be_given_one(released: Path, tmp_path: Path) -> None:
    full = copy_of(released / "full", tmp_path / "alone")
    alone = load_model(full)
    with_base = load_model(full, base_model=released / "base")
    assert_same_tensors(with_base.state_dict(), alone.state_dict())


def test_heads_under_the_other_file_name(released: Path, tmp_path: Path) -> None:
    folder = copy_of(released / "heads", tmp_path / "heads")
    (folder / "model.safetensors").rename(folder / "autodeco_heads.safetensors")
    assert_same_tensors(load_heads(folder).state_dict(), load_file(released / "heads" / "model.safetensors"))


@pytest.mark.parametrize("way", [["merged"], ["heads", "merged"], ["merged", "released-heads", "heads", "merged"]])
def test_full_checkpoint_comes_back_byte_for_byte(released: Path, tmp_path: Path, way: list[str]) -> None:
    here = released / "full"
    for number, layout in enumerate([*way, "released-full"]):
        convert(here, tmp_path / f"{number}-{layout}", layout)
        here = tmp_path / f"{number}-{layout}"
        assert inspect(here).layout == layout
    if way == ["merged"]:  # other ways take the base's own shards, which are cut elsewhere
        for path in (released / "full").glob("*.safetensors"):
            assert (here / path.name).read_bytes() == path.read_bytes()
        index = "model.safetensors.index.json"
        assert json.loads((here / index).read_text()) == json.loads((released / "full" / index).read_text())
    assert_same_tensors(all_tensors(here), all_tensors(released / "full"))


def test_heads_come_back_byte_for_byte(released: Path, tmp_path: Path) -> None:
    convert(released / "heads", tmp_path / "own", "heads")
    convert(tmp_path / "own", tmp_path / "back", "released-heads")
    expected = (released / "heads" / "model.safetensors").read_bytes()
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == expected


@pytest.mark.parametrize("layout", ["heads", "full"])
def test_configuration_has_exactly_the_released_keys(released: Path, tmp_path: Path, layout: str) -> None:
    convert(released / layout, tmp_path / "merged", "merged")
    convert(tmp_path / "merged", tmp_path / "back", f"released-{layout}")
    found = json.loads((tmp_path / "back" / "config.json").read_text())
    expected = json.loads((released / layout / "config.json").read_text())
    base = str(released / "base")  # "../base" would mean another folder from here
    expected |= {"base_model_name_or_path": base, "_name_or_path": base}
    for values in (found, expected):
        values.pop("transformers_version", None)
    assert found == expected


def test_a_relative_base_stays_so_where_it_means_the_same(released: Path, tmp_path: Path) -> None:
    copy_of(released / "base", tmp_path / "base")
    copy_of(released / "heads", tmp_path / "heads")
    convert(tmp_path / "heads", tmp_path / "own", "heads")
    assert json.loads((tmp_path / "own" / "autodeco_config.json").read_text())["base_model_name_or_path"] == "../base"
    convert(tmp_path / "heads", tmp_path / "deep" / "own", "heads")
    recorded = json.loads((tmp_path / "deep" / "own" / "autodeco_config.json").read_text())
    assert recorded["base_model_name_or_path"] == str(tmp_path / "base")


@pytest.mark.parametrize("tied", [False, True])
def test_full_checkpoint_of_tied_embeddings_in_bfloat16(tmp_path: Path, tied: bool) -> None:
    base = tiny_llama(tie_word_embeddings=tied).to(torch.bfloat16)
    base.save_pretrained(tmp_path / "base")
    model = AutoDecoForCausalLM.from_base(str(tmp_path / "base"))
    model.save_pretrained(tmp_path / "heads")
    convert(tmp_path / "heads", tmp_path / "full", "released-full")
    assert ("llm.lm_head.weight" in all_tensors(tmp_path / "full")) is not tied
    assert_same_tensors(load_model(tmp_path / "full").state_dict(), model.state_dict())


def test_heads_only_checkpoint_without_one_head_or_statistics(tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_llama().save_pretrained(base)
    for settings in ({"temperature_head": False}, {"top_p_head": False}, {"statistics_features": False}):
        folder = tmp_path / next(iter(settings))
        model = AutoDecoForCausalLM.from_base(str(base), **settings)
        model.save_pretrained(folder / "own")
        convert(folder / "own", folder / "released", "released-heads")
        assert_same_tensors(load_model(folder / "released").state_dict(), model.state_dict())


def test_settings_that_the_released_layout_cannot_express(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "base")
    heads = tiny_autodeco().decoding_heads
    heads.config = dataclasses.replace(heads.config, max_temperature=3.0, base_model_name_or_path="../base")
    save_heads(heads, tmp_path / "heads")
    with pytest.raises(CheckpointError, match=r"max_temperature is 3.0, .* fixed at 2.0"):
        convert(tmp_path / "heads", tmp_path / "released", "released-heads")
    assert not (tmp_path / "released").exists()


@pytest.mark.parametrize("name", ["base_model_type", "enable_top_p_head", "use_enhanced_features"])
def test_missing_setting(released: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(released / "heads", tmp_path / "heads")
    edit_json(folder / "config.json", **{name: None})
    with pytest.raises(CheckpointError, match=f"config.json.*'{name}'"):
        load_heads(folder)


def test_statistics_setting_that_disagrees_with_the_tensors(released: Path, tmp_path: Path) -> None:
    folder = copy_of(released / "heads", tmp_path / "heads")
    edit_json(folder / "config.json", use_enhanced_features=False)
    with pytest.raises(CheckpointError, match=r"top_p_head.mlp.0.weight.*\[256, 37\].*\[256, 33\]"):
        load_heads(folder)


def test_unknown_base_type(released: Path, tmp_path: Path) -> None:
    folder = copy_of(released / "heads", tmp_path / "heads")
    edit_json(folder / "config.json", base_model_type="no-such-type")
    with pytest.raises(CheckpointError, match=r"config.json.*no-such-type"):
        load_heads(folder)


def test_extra_tensors_beside_released_heads(released: Path, tmp_path: Path) -> None:
    folder = copy_of(released / "heads", tmp_path / "heads")
    path = folder / "model.safetensors"
    save_file({**load_file(path), "value_head.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"value_head.weight"):
        load_heads(folder)


def test_tensor_that_belongs_to_neither_part(released: Path, tmp_path: Path) -> None:
    folder = copy_of(released / "full", tmp_path / "full")
    save_file({"stray": torch.zeros(1)}, folder / "stray.safetensors")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    edit_json(folder / "model.safetensors.index.json", weight_map={**index["weight_map"], "stray": "stray.safetensors"})
    with pytest.raises(CheckpointError, match=r"stray.safetensors: tensor 'stray'"):
        convert(folder, tmp_path / "merged", "merged")
    assert not (tmp_path / "merged").exists()
