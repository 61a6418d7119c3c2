"""A base model with a LoRA adapter added to its weights, as a folder of its own. Knows no heads."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from autodeco.checkpoint.adapter import folded
from autodeco.checkpoint.adapter_files import StoredAdapter
from autodeco.checkpoint.base import load_weights
from autodeco.checkpoint.base_files import GENERATION_CONFIG, BaseFiles
from autodeco.checkpoint.layout import CONFIG, Layout
from autodeco.checkpoint.source import Source, to_json
from autodeco.files import check_space, disk_errors_named

DTYPES = ("auto", "bfloat16", "float16", "float32")
_DTYPE_SETTINGS = ("dtype", "torch_dtype")  # of config.json, as Transformers writes it and as it wrote it


@contextlib.contextmanager
def folded_base(base: BaseFiles, adapter: StoredAdapter, near: Path, *, dtype: str = "auto") -> Iterator[BaseFiles]:
    """A base model with an adapter added to its weights, as a folder that is there within this context.

    Args:
        base: the base model.
        adapter: as :func:`autodeco.checkpoint.adapter_files.find_adapter` gives it.
        near: the folder is made beside this one.
        dtype: of the weights, one of :data:`DTYPES`; ``"auto"`` is the base's own.

    Raises:
        CheckpointError: a file is damaged, or the adapter is of another base.
        MissingDependencyError: PEFT is not installed.
        RunFolderError: the disk is full.
    """
    beside = near.absolute().parent
    with contextlib.ExitStack() as stack:
        stack.enter_context(disk_errors_named(near))
        beside.mkdir(parents=True, exist_ok=True)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".{near.name}.", dir=beside)))
        check_space(folder, _needed_bytes(base, dtype), "the base model with its adapter")
        model = folded(load_weights(base.folder, base.source.name, dtype=dtype), adapter)
        model.save_pretrained(folder)
        base.copy_small_files(folder)
        config = base.config
        if dtype != "auto":
            config = {**{name: config[name] for name in config if name not in _DTYPE_SETTINGS}, "dtype": dtype}
        (folder / CONFIG).write_text(to_json(config), encoding="utf-8")
        if base.generation_config is not None:
            (folder / GENERATION_CONFIG).write_text(to_json(base.generation_config), encoding="utf-8")
        yield BaseFiles.open(Source(base.source.name, folder), Layout.BASE)


def _needed_bytes(base: BaseFiles, dtype: str) -> int:
    shards = base.shards()
    if dtype == "auto":
        return sum(shard.nbytes for shard in shards)
    size = getattr(torch, dtype).itemsize
    return sum(tensor.nbytes * 8 // tensor.bits * size for shard in shards for tensor in shard.tensors.values())
