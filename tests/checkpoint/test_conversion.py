"""Every direction between the layouts (bytes of the released ones: test_released.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import Layout, convert, inspect, load_heads, load_model
from autodeco.errors import CheckpointError, ConfigError, RunFolderError
from tests.checkpoint.conftest import all_tensors, assert_same_tensors, edit_json, outputs_of

LAYOUTS = ("heads", "merged", "released-heads", "released-full")


@pytest.fixture
def every_layout(tmp_path: Path, heads_folder: Path) -> dict[str, Path]:
    folders = {"heads": heads_folder}
    for layout in LAYOUTS[1:]:
        folders[layout] = tmp_path / "made" / layout
        convert(heads_folder, folders[layout], layout)
    return folders


@pytest.mark.parametrize("target", LAYOUTS)
@pytest.mark.parametrize("source", LAYOUTS)
def test_every_direction(tmp_path: Path, every_layout: dict[str, Path], source: str, target: str) -> None:
    output = tmp_path / "output"
    if source == target:
        with pytest.raises(CheckpointError, match=f"is in the layout '{target}' already"):
            convert(every_layout[source], output, target)
        return
    convert(every_layout[source], output, target)
    assert inspect(output).layout == target
    assert_same_tensors(all_tensors(output), all_tensors(every_layout[target]))
    expected = load_model(every_layout["heads"])
    found = load_model(output)
    assert_same_tensors(found.state_dict(), expected.state_dict())
    assert found.autodeco_config == expected.autodeco_config
    if target != "heads":
        assert (output / "tokenizer.json").is_file()


def test_temperature_features_stay_in_our_own_layouts(tmp_path: Path, sharded_base: Path) -> None:
    model = AutoDecoForCausalLM.from_base(str(sharded_base), temperature_features=True)
    model.save_pretrained(tmp_path / "heads")
    convert(tmp_path / "heads", tmp_path / "merged", "merged")
    found = load_model(tmp_path / "merged")
    assert found.autodeco_config.temperature_features
    for one, other in zip(outputs_of(found), outputs_of(model), strict=True):
        assert torch.equal(one, other)
    for layout in ("released-heads", "released-full"):
        with pytest.raises(CheckpointError, match=r"temperature_features is True, and the released layout .* 'merged'"):
            convert(tmp_path / "heads", tmp_path / "released", layout)
    assert not (tmp_path / "released").exists()


def test_every_layout_is_a_target() -> None:
    assert {str(layout) for layout in Layout} == {*LAYOUTS, "base"}


def test_base_that_is_named(tmp_path: Path, heads_folder: Path, sharded_base: Path) -> None:
    edit_json(heads_folder / "autodeco_config.json", base_model_name_or_path=None)
    with pytest.raises(CheckpointError, match="does not record its base"):
        convert(heads_folder, tmp_path / "full", "released-full")
    convert(heads_folder, tmp_path / "full", "released-full", base=sharded_base)
    assert load_heads(tmp_path / "full").config.base_model_name_or_path == str(sharded_base)


def test_progress_ends_at_the_total(tmp_path: Path, heads_folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    convert(heads_folder, tmp_path / "full", "released-full", progress=lambda done, total: steps.append((done, total)))
    total = sum(tensor.nbytes for tensor in all_tensors(tmp_path / "full").values())
    assert steps[-1] == (total, total)


def test_unknown_layout(tmp_path: Path, heads_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"'released-ful' is no checkpoint layout. Did you mean 'released-full'"):
        convert(heads_folder, tmp_path / "output", "released-ful")


def test_base_has_nothing_to_convert(tmp_path: Path, sharded_base: Path) -> None:
    with pytest.raises(CheckpointError, match="plain model without decoding heads"):
        convert(sharded_base, tmp_path / "output", "released-full")


def test_output_that_exists(tmp_path: Path, heads_folder: Path, sharded_base: Path) -> None:
    with pytest.raises(RunFolderError, match="not empty"):
        convert(heads_folder, sharded_base, "merged")
