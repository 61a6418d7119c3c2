"""Safetensors files read and written as bytes, checked against the safetensors library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from autodeco.checkpoint.shards import copy_file, link_file, read_header, write_shard
from autodeco.errors import CheckpointError
from tests.checkpoint.conftest import assert_same_tensors

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64, torch.uint8, torch.bool)


def tensors_of(dtypes: list[torch.dtype], sizes: list[int]) -> dict[str, torch.Tensor]:
    return {
        f"t{index}": torch.randint(0, 2, (size, 3)).to(dtype)
        for index, (dtype, size) in enumerate(zip(dtypes, sizes, strict=False))
    }


def raw(path: Path) -> tuple[dict[str, object], int]:
    length = int.from_bytes(path.read_bytes()[:8], "little")
    return json.loads(path.read_bytes()[8 : 8 + length]), length


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=2, max_size=8),
    sizes=st.lists(st.integers(0, 5), min_size=8, max_size=8),
    dropped=st.integers(0, 1),
)
def test_renamed_dropped_and_added_tensors_keep_their_bits(tmp_path: Path, dtypes, sizes, dropped) -> None:
    tensors = tensors_of(dtypes, sizes)
    save_file(tensors, tmp_path / "a.safetensors")
    save_file({"more": torch.randn(3)}, tmp_path / "b.safetensors")
    stored = read_header(tmp_path / "a.safetensors")
    assert {name: at.shape for name, at in stored.items()} == {name: tuple(t.shape) for name, t in tensors.items()}
    del stored[f"t{dropped}"], tensors[f"t{dropped}"]
    renamed = {f"llm.{name}": at for name, at in stored.items()} | read_header(tmp_path / "b.safetensors")
    write_shard(tmp_path / "c.safetensors", renamed)
    expected = {f"llm.{name}": t for name, t in tensors.items()} | load_file(tmp_path / "b.safetensors")
    assert_same_tensors(load_file(tmp_path / "c.safetensors"), expected)
    header, length = raw(tmp_path / "c.safetensors")
    assert length % 8 == 0
    assert header["__metadata__"] == {"format": "pt"}


def test_the_same_bytes_as_the_library_writes(tmp_path: Path) -> None:
    tensors = tensors_of(list(DTYPES), [3] * len(DTYPES))
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    write_shard(tmp_path / "b.safetensors", read_header(tmp_path / "a.safetensors"))
    with safe_open(tmp_path / "b.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert_same_tensors(load_file(tmp_path / "b.safetensors"), tensors)
    for name, at in read_header(tmp_path / "b.safetensors").items():
        assert at.start % (at.bits // 8) == 0, f"{name} is not aligned"


def test_a_file_of_one_dtype_is_reproduced_exactly(tmp_path: Path) -> None:
    save_file({"b": torch.randn(7), "a": torch.randn(2, 3)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    write_shard(tmp_path / "b.safetensors", read_header(tmp_path / "a.safetensors"))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_pieces_add_up_to_the_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("autodeco.checkpoint.shards._CHUNK_BYTES", 64)
    save_file({"a": torch.randn(100), "b": torch.randn(33)}, tmp_path / "a.safetensors")
    pieces: list[int] = []
    write_shard(tmp_path / "b.safetensors", read_header(tmp_path / "a.safetensors"), pieces.append)
    assert sum(pieces) == 133 * 4
    assert max(pieces) == 64
    pieces.clear()
    copy_file(tmp_path / "a.safetensors", tmp_path / "c.safetensors", pieces.append)
    assert sum(pieces) == (tmp_path / "a.safetensors").stat().st_size
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()


def test_the_real_file_behind_a_symbolic_link_is_linked(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "snapshot").symlink_to("blob")
    assert link_file(tmp_path / "snapshot", tmp_path / "linked")
    assert not (tmp_path / "linked").is_symlink()
    assert (tmp_path / "linked").samefile(tmp_path / "blob")


def write_raw(path: Path, header: object, data: bytes) -> Path:
    body = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(body).to_bytes(8, "little") + body + data)
    return path


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"x" * 7, "is cut off: .* bytes, .* needs"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"x" * 9, "has bytes after its end"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, b"x" * 12, "'a' begins at byte"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"x" * 8, r"header is damaged.*\(3,\)"),
        ({"a": {"shape": [2], "data_offsets": [0, 8]}}, b"x" * 8, "header is damaged"),
        ({"a": 3}, b"", "header is damaged"),
        (b"{not json", b"", "header is damaged"),
        (b"no header", b"", "not a safetensors file"),
    ],
)
def test_damaged_headers(tmp_path: Path, header: object, data: bytes, message: str) -> None:
    path = write_raw(tmp_path / "a.safetensors", header, data)
    with pytest.raises(CheckpointError, match=f"a.safetensors.*{message}"):
        read_header(path)
