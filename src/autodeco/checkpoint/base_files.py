"""A base model's files, wherever they lie: on their own, in a merged checkpoint, or in a released one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodeco.checkpoint.auto_class import FILE as AUTO_CLASS_FILE
from autodeco.checkpoint.auto_class import without_auto_class
from autodeco.checkpoint.layout import (
    CONFIG,
    HEAD_TENSOR,
    HEADS_CONFIG,
    INDEX_FILE,
    RELEASED_PREFIX,
    SECTION,
    Layout,
    stored_tensors,
    tensor_files,
)
from autodeco.checkpoint.released import base_config, base_sizes, causal_lm_class
from autodeco.checkpoint.shards import Advance, StoredTensor, copy_file, link_file, read_header, write_shard
from autodeco.checkpoint.source import OTHER_WEIGHTS, Source, read_json
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError
from autodeco.files import check_space

GENERATION_CONFIG = "generation_config.json"
BASE_GENERATION_CONFIG = "base_generation_config.json"  # what a merged checkpoint's neutral one replaced

# Written anew for each layout, or telling of another folder than the one they would be copied to.
_NOT_COPIED = (
    CONFIG,
    GENERATION_CONFIG,
    BASE_GENERATION_CONFIG,
    HEADS_CONFIG,
    INDEX_FILE,
    AUTO_CLASS_FILE,
    "README.md",
)
_NOT_COPIED_PATTERNS = ("*.safetensors", "*.index.json", "autodeco_provenance.json", ".*", *OTHER_WEIGHTS)
_COPIED_FOLDERS = ("additional_chat_templates",)


@dataclass(frozen=True)
class Shard:
    """One weight file of the base model.

    Attributes:
        name: its file name.
        path: where it is.
        tensors: the base's own tensor name → where the bytes lie; head tensors in the same file are left out.
        intact: whether the file holds just these tensors under just these names, so that it can be linked.
    """

    name: str
    path: Path
    tensors: dict[str, StoredTensor]
    intact: bool

    @property
    def nbytes(self) -> int:
        """How many bytes :func:`place_shards` deals with: those of the whole file if it stays as it is."""
        return self.path.stat().st_size if self.intact else sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True)
class BaseFiles:
    """A base model on disk, seen in its own form whatever the layout it lies in.

    Attributes:
        source: the folder.
        layout: the layout it lies in.
        config: its own ``config.json``.
    """

    source: Source
    layout: Layout
    config: dict[str, Any]

    @classmethod
    def open(cls, source: Source, layout: Layout) -> BaseFiles:
        """Reads the configuration; no weights are needed for that.

        Raises:
            CheckpointError: it is damaged.
        """
        values = read_json(source.need(CONFIG))
        if layout in (Layout.RELEASED_FULL, Layout.RELEASED_HEADS):
            values = base_config(values, source.label(CONFIG))
        elif layout is Layout.MERGED:
            values = {name: value for name, value in values.items() if name != SECTION}
            names = values.get("architectures") or []
            values["architectures"] = [name.removeprefix("AutoDeco") for name in names]
            values = without_auto_class(values)
        return cls(source, layout, values)

    @property
    def folder(self) -> Path:
        """The local folder."""
        assert self.source.folder is not None
        return self.source.folder

    @property
    def architecture(self) -> str:
        """Name of the base's Transformers class."""
        names = self.config.get("architectures")
        if names:
            return str(names[0])
        return causal_lm_class(str(self.config.get("model_type")), self.source.label(CONFIG))

    @property
    def generation_config(self) -> dict[str, Any] | None:
        """The base's own generation settings, if it has any."""
        # A merged checkpoint's own file is the neutral one.
        path = self.source.find(BASE_GENERATION_CONFIG if self.layout is Layout.MERGED else GENERATION_CONFIG)
        return None if path is None else read_json(path)

    def shards(self) -> list[Shard]:
        """The weight files in order of their names.

        Raises:
            CheckpointError: there are no safetensors weights, or a file is missing or damaged.
        """
        files = tensor_files(self.source)
        stored = stored_tensors(self.source, files)
        shards = []
        for file in sorted(set(files.values())):
            names = [name for name in files if files[name] == file and not HEAD_TENSOR.match(name)]
            if not names:
                continue
            path = self.source.need(file)
            tensors = {self._own_name(name, file): stored[name] for name in names}
            shards.append(Shard(file, path, tensors, intact=tensors.keys() == read_header(path).keys()))
        if not shards:
            raise CheckpointError(f"{self.folder} has no tensors of a base model.")
        return shards

    def _own_name(self, name: str, file: str) -> str:
        if self.layout is not Layout.RELEASED_FULL:
            return name
        if not name.startswith(RELEASED_PREFIX):
            raise CheckpointError(
                f"{self.source.label(file)}: tensor '{name}' belongs neither to the base ('{RELEASED_PREFIX}...') nor "
                f"to the heads."
            )
        return name.removeprefix(RELEASED_PREFIX)

    def copy_small_files(self, folder: Path) -> None:
        """Copies tokenizer, chat template, licence, code: all but weights and what each layout writes itself."""
        for path in sorted(self.folder.iterdir()):
            if path.is_dir():
                if path.name in _COPIED_FOLDERS:
                    shutil.copytree(path, folder / path.name)
            elif path.name not in _NOT_COPIED and not any(path.match(pattern) for pattern in _NOT_COPIED_PATTERNS):
                shutil.copyfile(path, folder / path.name)

    def check_fits(self, config: AutoDecoConfig, label: str) -> None:
        """Compares the heads' sizes with the base's.

        Raises:
            CheckpointError: they differ.
        """
        hidden_size, vocab_size = base_sizes(self.config, self.source.label(CONFIG))
        try:
            config.check_fits(hidden_size, vocab_size, f"'{self.source.name}' ({self.source.label(CONFIG)})")
        except CheckpointError as error:
            raise CheckpointError(f"{label}: {error}") from None


def place_shards(shards: list[Shard], folder: Path, advance: Advance | None, *, link: bool = True) -> int:
    """Puts base shards under the base's own tensor names into a folder: hard-linked, copied, or rewritten.

    Args:
        shards: the shards.
        folder: where to.
        advance: called with the bytes of each piece that has been dealt with.
        link: whether hard links are allowed.

    Returns:
        The number of shards that were linked.
    """
    linked = [shard for shard in shards if link and shard.intact and link_file(shard.path, folder / shard.name)]
    written = [shard for shard in shards if shard not in linked]
    check_space(folder.parent, sum(shard.nbytes for shard in written), "the base model")
    if advance is not None and linked:
        advance(sum(shard.nbytes for shard in linked))
    for shard in written:
        if shard.intact:
            copy_file(shard.path, folder / shard.name, advance)
        else:
            write_shard(folder / shard.name, shard.tensors, advance)
    return len(linked)
