"""The store on disk: its index, its shards, and whether they are what they say. Knows nothing of running models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autodeco.errors import StoreError
from autodeco.files import atomic_write_text, replaced_atomically, sha256_of
from autodeco.training.tokenize import TokenizedRow

INDEX_FILE = "store.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class StoreIdentity:
    """What hidden states depend on, besides the data itself. A store is used only where all of it is the same.

    Attributes:
        model: name or path of the base model.
        revision: its hub revision.
        base_checksum: of the base model's weights.
        dtype: that the base model ran in.
        tokenizer: digest of the tokenizer.
        chat_template: digest of its chat template.
        hidden_size: width of the states.
        prompts: whether the states of whole prompts are stored, too.
        prompt_layer: after which layer those are taken; 0: the last ones.
    """

    model: str
    revision: str | None
    base_checksum: str
    dtype: str
    tokenizer: str
    chat_template: str
    hidden_size: int
    prompts: bool = False
    prompt_layer: int = 0


class RowStates(NamedTuple):
    """What is stored of one row.

    Attributes:
        hidden_states: ``[n, H]``, at the positions that the loss uses.
        targets: ``[n]``, the token that follows each.
        prompt_states: ``[p, H]``, of the whole prompt, where prompts are stored.
    """

    hidden_states: Tensor
    targets: Tensor
    prompt_states: Tensor | None = None


@dataclass(frozen=True)
class Shard:
    """One file of the store.

    Attributes:
        file: its name in the folder.
        rows: number of data rows in it.
        positions: number of positions in it that the loss uses.
        data: digest of those rows' token ids.
        sha256: of the file.
    """

    file: str
    rows: int
    positions: int
    data: str
    sha256: str


def digest_rows(rows: Iterable[TokenizedRow]) -> str:
    """A digest of rows' token ids and of where their completions begin."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(torch.tensor([len(row.input_ids), row.prompt_length, *row.input_ids]).numpy().tobytes())
    return digest.hexdigest()


class HiddenStateStore:
    """A store in a folder, complete or on its way.

    Args:
        folder: where it is or will be.
        identity: of the model that fills or uses it.

    Raises:
        StoreError: the folder holds a store of something else, or no index beside its shards.
    """

    def __init__(self, folder: Path, identity: StoreIdentity) -> None:
        self.folder = folder
        self.identity = identity
        self.shards: list[Shard] = []
        index = folder / INDEX_FILE
        if index.exists():
            self._read_index(index)
        elif any(folder.glob("states-*.safetensors")):
            raise StoreError(
                f"{folder} holds shards of a hidden-state store, but not its index {INDEX_FILE}. Put that file back, "
                f"or delete the folder: running again fills it anew."
            )

    @property
    def rows(self) -> int:
        """Number of data rows stored so far."""
        return sum(shard.rows for shard in self.shards)

    @property
    def positions(self) -> int:
        """Number of positions stored so far that the loss uses."""
        return sum(shard.positions for shard in self.shards)

    def _read_index(self, index: Path) -> None:
        try:
            record = json.loads(index.read_text(encoding="utf-8"))
            version = record["format_version"]
            identity = {"prompts": False, "prompt_layer": 0} | record["identity"]  # earlier versions knew no others
            self.shards = [Shard(**entry) for entry in record["shards"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{index} is damaged ({error}). Delete the folder {self.folder}: running again fills it anew."
            ) from None
        if version != FORMAT_VERSION:
            raise StoreError(f"{index} is of format version {version}; this autodeco reads {FORMAT_VERSION}.")
        changed = [
            f"{name} was {identity.get(name)!r}, is {value!r}"
            for name, value in asdict(self.identity).items()
            if identity.get(name) != value
        ]
        if changed:
            raise StoreError(
                f"the hidden states in {self.folder} are of something else: {'; '.join(changed)}. Choose another "
                f"folder for them, or delete this one."
            )

    def check(self, rows: list[TokenizedRow], on_shard: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Checks every shard against its checksum and against the data.

        Args:
            rows: the data; the store may hold the beginning of it, or all.
            on_shard: called with the number of shards checked and their total.

        Raises:
            StoreError: a shard is missing or damaged, or the data has changed; says which and what to do.
        """
        start = 0
        for index, shard in enumerate(self.shards):
            path = self.folder / shard.file
            if not self._is_whole(shard):
                state = "damaged (its checksum differs)" if path.exists() else "missing"
                raise StoreError(
                    f"{path} is {state}. Put the right file back, or run `autodeco train` with --repair-store: it "
                    f"computes that shard's {shard.rows} rows again and keeps the other shards."
                )
            if digest_rows(rows[start : start + shard.rows]) != shard.data:
                raise StoreError(
                    f"the hidden states in {self.folder} are of other data: rows {start + 1} to {start + shard.rows} "
                    f"({path.name}) have other token ids. Rows may be added at the end of the data, not changed. "
                    f"Choose another folder, or delete this one."
                )
            start += shard.rows
            on_shard(index + 1, len(self.shards))

    def broken_shards(self) -> list[int]:
        """Indices of shards that are missing or damaged."""
        return [index for index, shard in enumerate(self.shards) if not self._is_whole(shard)]

    def _is_whole(self, shard: Shard) -> bool:
        path = self.folder / shard.file
        return path.exists() and sha256_of(path) == shard.sha256

    def write(self, rows: list[TokenizedRow], states: list[RowStates], at: int | None = None) -> None:
        """Adds a shard, on disk when this returns.

        Args:
            rows: the data rows in it.
            states: of each row.
            at: index of a broken shard to replace; ``None`` appends.
        """
        number = len(self.shards) if at is None else at
        path = self.folder / f"states-{number:05d}.safetensors"
        tensors = {
            "hidden_states": torch.cat([own.hidden_states for own in states]).bfloat16().contiguous(),
            "targets": torch.cat([own.targets for own in states]).int().contiguous(),
            "lengths": torch.tensor([len(own.targets) for own in states], dtype=torch.int32),
        }
        if self.identity.prompts:
            prompts = [own.prompt_states for own in states if own.prompt_states is not None]
            tensors["prompt_states"] = torch.cat(prompts).bfloat16().contiguous()
            tensors["prompt_lengths"] = torch.tensor([len(own) for own in prompts], dtype=torch.int32)
        with replaced_atomically(path) as temporary:
            save_file(tensors, temporary)
        shard = Shard(path.name, len(rows), len(tensors["targets"]), digest_rows(rows), sha256_of(path))
        self.shards = [*self.shards[:number], shard, *self.shards[number + 1 :]]
        record: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "identity": asdict(self.identity),
            "shards": [asdict(entry) for entry in self.shards],
        }
        atomic_write_text(self.folder / INDEX_FILE, json.dumps(record, indent=2) + "\n")

    def open_shard(self, index: int) -> Any:
        """A shard's safetensors handle, memory-mapped.

        Raises:
            StoreError: it cannot be opened.
        """
        path = self.folder / self.shards[index].file
        try:
            return safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{path} cannot be read ({error}). Run with --repair-store to compute it again.") from None
