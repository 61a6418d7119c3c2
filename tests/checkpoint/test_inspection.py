"""What inspect says of each layout, of damage, and of a plain model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autodeco.checkpoint import convert, inspect
from autodeco.errors import CheckpointError
from tests.checkpoint.conftest import HEAD_NAMES, all_tensors


def test_heads(heads_folder: Path, sharded_base: Path) -> None:
    found = inspect(heads_folder)
    tensors = all_tensors(heads_folder)
    assert (found.layout, found.base_model, found.architecture) == ("heads", str(sharded_base), None)
    assert found.head_parameters == sum(tensor.numel() for tensor in tensors.values())
    assert found.head_bytes == 4 * found.head_parameters
    assert {summary.name for summary in found.tensors} == HEAD_NAMES
    for summary in found.tensors:
        tensor = tensors[summary.name].double()
        assert (summary.shape, summary.dtype, summary.non_finite) == (tuple(tensor.shape), "F32", 0)
        assert summary.mean == pytest.approx(tensor.mean().item())
        assert summary.absmax == pytest.approx(tensor.abs().max().item())
    assert found.problems == ()
    assert found.base_bytes is None


@pytest.mark.parametrize("layout", ["merged", "released-full"])
def test_layouts_with_base_weights(tmp_path: Path, sharded_base: Path, heads_folder: Path, layout: str) -> None:
    convert(heads_folder, tmp_path / layout, layout)
    found = inspect(tmp_path / layout)
    base = all_tensors(sharded_base)
    assert (found.layout, found.architecture) == (layout, "llama")
    assert found.base_parameters == sum(tensor.numel() for tensor in base.values())
    assert found.base_bytes == 2 * found.base_parameters
    assert found.base_dtypes == {"BF16": found.base_bytes}


def test_plain_model(sharded_base: Path) -> None:
    found = inspect(sharded_base)
    assert (found.layout, found.config, found.tensors, found.head_parameters) == ("base", None, (), 0)
    assert found.base_bytes


def test_damage_is_shown_and_not_raised(heads_folder: Path) -> None:
    path = heads_folder / "autodeco_heads.safetensors"
    tensors = load_file(path)
    tensors["temp_head.mlp.0.bias"][:3] = torch.tensor([float("nan"), float("inf"), 0.0])
    del tensors["top_p_head.mlp.2.bias"]
    save_file(tensors, path)
    found = inspect(heads_folder)
    assert {summary.name: summary.non_finite for summary in found.tensors}["temp_head.mlp.0.bias"] == 2
    assert len(found.problems) == 2
    assert "top_p_head.mlp.2.bias" in found.problems[0]


def test_json(heads_folder: Path) -> None:
    values = inspect(heads_folder).to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["config"]["hidden_size"] == 32
    assert values["tensors"][0]["shape"] == [256]


def test_nothing_to_inspect(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        inspect(tmp_path)
