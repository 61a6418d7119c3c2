"""Small checkpoints in every layout, and what the tests compare them by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from autodeco import AutoDecoForCausalLM
from autodeco.checkpoint import merge, save_heads
from tests.conftest import byte_tokenizer, tiny_llama

INPUT_IDS = torch.tensor([[1, 5, 9, 60, 33, 7, 80, 12]])
HEAD_NAMES = {
    f"{head}.mlp.{layer}.{kind}"
    for head in ("temp_head", "top_p_head")
    for layer in (0, 2)
    for kind in ("weight", "bias")
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # The environment variable is read when huggingface_hub is imported, which has happened by now.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def sharded_base(tmp_path: Path) -> Path:
    """A tiny base in bfloat16 and several shards, with a tokenizer and its own sampling settings."""
    folder = tmp_path / "sharded"
    tokenizer = byte_tokenizer()
    model = tiny_llama(vocab_size=len(tokenizer)).to(torch.bfloat16)
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.9, top_k=20, repetition_penalty=1.1)
    model.save_pretrained(folder, max_shard_size="30KB")
    tokenizer.save_pretrained(folder)
    (folder / "LICENSE").write_text("do what you like")
    (folder / "README.md").write_text("the base model's own card")
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 not to be copied")
    return folder


@pytest.fixture
def heads_folder(tmp_path: Path, sharded_base: Path) -> Path:
    """Heads for ``sharded_base``."""
    folder = tmp_path / "heads"
    model = AutoDecoForCausalLM.from_base(str(sharded_base))
    with torch.no_grad():
        for parameter in model.decoding_heads.parameters():
            parameter.mul_(3)
    save_heads(model.decoding_heads, folder)
    return folder


@pytest.fixture
def merged_folder(tmp_path: Path, sharded_base: Path, heads_folder: Path) -> Path:
    """Both merged."""
    merge(sharded_base, heads_folder, tmp_path / "merged")
    return tmp_path / "merged"


def all_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of every safetensors file of a folder."""
    tensors: dict[str, Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found = load_file(path)
        assert not tensors.keys() & found.keys(), "a tensor is in two files"
        tensors |= found
    return tensors


def assert_same_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Same names, dtypes and bits."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def edit_json(path: Path, **changes: object) -> None:
    """Changes settings of a JSON file; ``None`` removes one."""
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


@torch.no_grad()
def outputs_of(model: AutoDecoForCausalLM) -> tuple[Tensor, Tensor, Tensor]:
    output = model(INPUT_IDS)
    return output.logits, output.temperature, output.top_p
