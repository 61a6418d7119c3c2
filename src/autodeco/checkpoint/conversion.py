"""Rewriting a checkpoint from any layout into any other, bit for bit and without loading the base model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from autodeco.checkpoint.base_files import GENERATION_CONFIG, BaseFiles
from autodeco.checkpoint.heads import StoredHeads, find_heads
from autodeco.checkpoint.layout import CONFIG, RELEASED_PREFIX, SINGLE_FILE, Layout
from autodeco.checkpoint.merged import Progress, counted, open_base, write_heads, write_index, write_merged
from autodeco.checkpoint.model import recorded_base, warn_of_other_base
from autodeco.checkpoint.output_folder import check_new, new_folder
from autodeco.checkpoint.released import released_config
from autodeco.checkpoint.shards import StoredTensor, write_shard
from autodeco.checkpoint.source import Source, to_json
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError, ConfigError, did_you_mean
from autodeco.files import check_space
from autodeco.version import __version__

TARGETS = tuple(str(layout) for layout in Layout if layout is not Layout.BASE)


def convert(
    source: str | Path,
    output: str | Path,
    to: str,
    *,
    base: str | Path | None = None,
    revision: str | None = None,
    link: bool = True,
    progress: Progress | None = None,
) -> None:
    """Rewrites a checkpoint in another layout.

    Args:
        source: checkpoint in any layout with heads.
        output: folder to make; it appears when it is complete.
        to: ``"heads"``, ``"merged"``, ``"released-heads"`` or ``"released-full"``.
        base: base model, where the source does not hold one; ``None`` takes the one it records.
        revision: hub revision of the source.
        link: whether base shards may be hard-linked where they stay as they are.
        progress: called with bytes dealt with and bytes in all.

    Raises:
        ConfigError: ``to`` is no layout.
        ModelNotFoundError: the source or its base was not found.
        CheckpointError: the source is in that layout already, is damaged, or holds settings that the layout cannot
            express.
        RunFolderError: ``output`` exists, or the disk is full.
    """
    if to not in TARGETS:
        raise ConfigError(f"'{to}' is no checkpoint layout.{did_you_mean(to, TARGETS)}")
    target, output = Layout(to), Path(output)
    check_new(output)
    found = find_heads(Source.open(source, revision))
    if found.layout is target:
        raise CheckpointError(f"'{source}' is in the layout '{target}' already; copy the folder instead.")
    found.checked_tensors()
    if found.config.adapter_sha256 is not None:
        raise CheckpointError(
            f"'{source}' holds a LoRA adapter beside its heads, which belongs into the base's weights first: 'autodeco "
            f"merge --heads {source} --output FOLDER' puts it there, and that folder can be converted."
        )
    if target is Layout.HEADS:
        write_heads(found, output)
        return
    files = _base_of(found, base, weights=target.has_base_weights)
    name = str(base) if base is not None else found.base_name_from(output)
    config = dataclasses.replace(found.config, base_model_name_or_path=name, autodeco_version=__version__)
    if target is Layout.MERGED:
        write_merged(files, found, config, output, link=link, progress=progress)
    elif target is Layout.RELEASED_HEADS:
        _write_released_heads(files, found, config, output)
    else:
        _write_released_full(files, found, config, output, progress)


def _base_of(found: StoredHeads, base: str | Path | None, *, weights: bool) -> BaseFiles:
    """The base model's files: the checkpoint's own if it holds what is needed, else those of the recorded base."""
    if base is not None:
        warn_of_other_base(found, str(base))
        return open_base(str(base), weights=weights)
    if found.layout.has_base_weights or (found.layout is Layout.RELEASED_HEADS and not weights):
        return BaseFiles.open(found.source.fetched(weights=weights), found.layout)
    return open_base(recorded_base(found), found.config.base_model_revision, weights=weights)


def _write_released_heads(base: BaseFiles, heads: StoredHeads, config: AutoDecoConfig, output: Path) -> None:
    values = _released_values(base, heads, config)
    with new_folder(output) as folder:
        write_shard(folder / SINGLE_FILE, heads.stored)
        _write_rest(base, values, folder)


def _write_released_full(
    base: BaseFiles, heads: StoredHeads, config: AutoDecoConfig, output: Path, progress: Progress | None
) -> None:
    values = _released_values(base, heads, config)
    files = _released_files(base, heads)
    total = sum(tensor.nbytes for tensors in files.values() for tensor in tensors.values())
    advance = counted(progress, total)
    with new_folder(output) as folder:
        check_space(folder.parent, total, "the converted checkpoint")
        for name, tensors in files.items():
            write_shard(folder / name, tensors, advance)
        write_index(folder, files)
        _write_rest(base, values, folder)


def _released_files(base: BaseFiles, heads: StoredHeads) -> dict[str, dict[str, StoredTensor]]:
    """What goes into which file: prefixed base tensors; the heads in the last, as in the authors' files."""
    shards = base.shards()
    files: dict[str, dict[str, StoredTensor]] = {}
    for number, shard in enumerate(shards, start=1):
        tensors = {RELEASED_PREFIX + name: tensor for name, tensor in shard.tensors.items()}
        files[f"model-{number:05}-of-{len(shards):05}.safetensors"] = tensors
    tensors |= heads.stored
    return files


def _released_values(base: BaseFiles, heads: StoredHeads, config: AutoDecoConfig) -> dict[str, Any]:
    base.check_fits(config, heads.label)
    return released_config(base.config, config, heads.label)


def _write_rest(base: BaseFiles, values: dict[str, Any], folder: Path) -> None:
    (folder / CONFIG).write_text(to_json(values), encoding="utf-8")
    if base.generation_config is not None:
        (folder / GENERATION_CONFIG).write_text(to_json(base.generation_config), encoding="utf-8")
    base.copy_small_files(folder)
