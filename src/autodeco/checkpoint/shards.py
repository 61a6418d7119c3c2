"""Safetensors files as bytes: read headers, rename, drop and add tensors without ever loading one.

A safetensors file is an 8-byte little-endian header length, a JSON header, and the tensors' bytes without holes. Here
they are copied in chunks, so that memory does not grow with the model and every bit of every dtype is kept.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from autodeco.errors import CheckpointError

# Called with the number of bytes that have been dealt with since the last call.
Advance = Callable[[int], None]

_MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit
_CHUNK_BYTES = 1 << 18  # stays in the processor's cache: larger ones were no faster, and at times four times slower
_SENT_BYTES = 64 << 20  # between two moves of the progress bar


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor's bytes lie.

    Attributes:
        name: its name in the file.
        path: the file.
        dtype: safetensors' name of the dtype, such as ``BF16``.
        shape: its shape.
        start: offset of its first byte from the beginning of the file.
        nbytes: how many bytes it has.
    """

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def bits(self) -> int:
        """Size of one element in bits."""
        digits = re.search(r"\d+", self.dtype)
        return int(digits.group()) if digits else 8  # BOOL

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Tensors of a safetensors file by name, in the order of their bytes; no tensor is read.

    Raises:
        CheckpointError: the file is cut off, or is no safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES) or (body := file.read(length))[:1] != b"{":
            raise CheckpointError(f"{path} is not a safetensors file{_what_it_is(path, size)}")
    try:
        header = json.loads(body)
        header.pop("__metadata__", None)
        tensors = [_stored(name, path, entry, 8 + length) for name, entry in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its safetensors header is damaged ({error!r}). Get the file again.") from None
    tensors.sort(key=lambda tensor: tensor.start)
    end = 8 + length
    for tensor in tensors:
        if tensor.start != end:
            raise CheckpointError(f"{path}: tensor '{tensor.name}' begins at byte {tensor.start}, expected {end}.")
        end += tensor.nbytes
    if end != size:
        state = "is cut off" if size < end else "has bytes after its end"
        raise CheckpointError(f"{path} {state}: {size} bytes, and its header needs {end}. Get the file again.")
    return {tensor.name: tensor for tensor in tensors}


def write_shard(path: Path, tensors: Mapping[str, StoredTensor], advance: Advance | None = None) -> None:
    """Writes a safetensors file of tensors that lie in other files.

    Args:
        path: file to make.
        tensors: new name → where the bytes are now.
        advance: called with the size of each copied piece.
    """
    # Widest elements first, then by name, as the safetensors library writes them: every tensor is aligned that way.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].bits, item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
        end += tensor.nbytes
    body = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    body += b" " * (-len(body) % 8)
    with path.open("wb") as file:
        file.write(len(body).to_bytes(8, "little") + body)
        _copy_ranges(file, [tensor for _, tensor in ordered], advance)


def copy_file(source: Path, destination: Path, advance: Advance | None = None) -> None:
    """Copies a file in pieces, within the kernel where the system can."""
    size = source.stat().st_size
    with source.open("rb") as reading, destination.open("wb") as writing:
        if not _send_bytes(reading, writing, size, advance):
            _copy_bytes(reading, writing, size, advance)


def link_file(source: Path, destination: Path) -> bool:
    """Hard-links a file (the real one behind a symbolic link). Returns whether the file system allows it."""
    try:
        os.link(source.resolve(), destination)
    except OSError:  # another file system, one without hard links, or a file of another user
        return False
    return True


def _stored(name: str, path: Path, entry: dict[str, Any], data_start: int) -> StoredTensor:
    begin, end = entry["data_offsets"]
    tensor = StoredTensor(name, path, entry["dtype"], tuple(entry["shape"]), data_start + begin, end - begin)
    if (tensor.numel * tensor.bits + 7) // 8 != tensor.nbytes:
        raise ValueError(f"'{name}' of shape {tensor.shape} and dtype {tensor.dtype} has {tensor.nbytes} bytes")
    return tensor


def _what_it_is(path: Path, size: int) -> str:
    """What a file that should be safetensors seems to be, and what to do about it."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return (
            ": it is a PyTorch pickle, which can run code when loaded and is not read here. Convert it with the code "
            "that made it: safetensors.torch.save_file(state_dict, path)."
        )
    if start.startswith(b"version https://git-lfs"):
        return ": it is a Git LFS pointer. Run 'git lfs pull' in its folder, or download it from the hub."
    if start.startswith(b"GGUF"):
        return ": it is a GGUF file. Give the model's safetensors files."
    return f", or it is cut off ({size} bytes). Get the file again."


def _copy_ranges(writing: BinaryIO, tensors: Iterable[StoredTensor], advance: Advance | None) -> None:
    opened: BinaryIO | None = None
    path: Path | None = None
    try:
        for tensor in tensors:
            if tensor.path != path:
                if opened is not None:
                    opened.close()
                path, opened = tensor.path, tensor.path.open("rb")
            assert opened is not None
            opened.seek(tensor.start)
            _copy_bytes(opened, writing, tensor.nbytes, advance)
    finally:
        if opened is not None:
            opened.close()


def _send_bytes(reading: BinaryIO, writing: BinaryIO, count: int, advance: Advance | None) -> bool:
    """Copies a whole file without taking its bytes through this process; false, nothing done, if that cannot be."""
    sent = 0
    while sent < count:
        try:
            piece = os.sendfile(writing.fileno(), reading.fileno(), sent, min(_SENT_BYTES, count - sent))
        except (OSError, AttributeError):  # not on this system, or not between such files
            if sent:
                raise
            return False
        if not piece:
            raise CheckpointError(
                f"{reading.name} ended {count - sent} bytes early; did it change while it was copied?"
            )
        sent += piece
        if advance is not None:
            advance(piece)
    return True


def _copy_bytes(reading: BinaryIO, writing: BinaryIO, count: int, advance: Advance | None) -> None:
    buffer = memoryview(bytearray(min(_CHUNK_BYTES, max(count, 1))))
    while count > 0:
        read = reading.readinto(buffer[: min(len(buffer), count)])  # type: ignore[attr-defined]
        if not read:
            raise CheckpointError(f"{reading.name} ended {count} bytes early; did it change while it was copied?")
        writing.write(buffer[:read])
        count -= read
        if advance is not None:
            advance(read)
