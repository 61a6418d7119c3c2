"""The layout an inference engine loads: the base model's folder with the heads beside its weights; and back again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autodeco.checkpoint import auto_class
from autodeco.checkpoint.adapter import require_peft
from autodeco.checkpoint.adapter_files import find_adapter
from autodeco.checkpoint.base_files import (
    BASE_GENERATION_CONFIG,
    GENERATION_CONFIG,
    BaseFiles,
    place_shards,
)
from autodeco.checkpoint.folding import DTYPES, folded_base
from autodeco.checkpoint.heads import StoredHeads, find_heads, write_config_and_card
from autodeco.checkpoint.layout import CONFIG, HEADS_FILE, INDEX_FILE, SECTION, SINGLE_FILE, Layout, detect_layout
from autodeco.checkpoint.model import recorded_base, warn_of_other_base
from autodeco.checkpoint.model_card import merged_card
from autodeco.checkpoint.output_folder import check_new, new_folder
from autodeco.checkpoint.released import transformers_config
from autodeco.checkpoint.shards import Advance, StoredTensor, write_shard
from autodeco.checkpoint.source import Source, to_json
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError, ConfigError, did_you_mean
from autodeco.version import __version__

# Called with the bytes dealt with so far and the bytes in all.
Progress = Callable[[int, int], None]


def merge(
    base: str | Path | None,
    heads: str | Path,
    output: str | Path,
    *,
    base_revision: str | None = None,
    heads_revision: str | None = None,
    link: bool = True,
    dtype: str = "auto",
    progress: Progress | None = None,
) -> int:
    """Writes base model and heads as one folder that engines load.

    Base shards are hard-linked where the file system allows it and copied otherwise; no weight is loaded, so memory
    does not grow with the model. Plain Transformers still loads the result as the base model.

    A LoRA adapter that the heads were trained with is added to the base's weights: these are loaded then, and written
    anew, the sums rounded to ``dtype``. Such a checkpoint records no base model, because it is the only one that its
    heads are for.

    Args:
        base: hub id, folder or ``"smollm2-135m"``; ``None`` takes the one that the heads record.
        heads: checkpoint in any layout that holds heads.
        output: folder to make; it appears when it is complete.
        base_revision: hub revision of the base.
        heads_revision: hub revision of the heads.
        link: whether hard links are allowed; without them the result shares nothing with the base's folder.
        dtype: of weights that an adapter is added to: ``"auto"`` (the base's own), ``"bfloat16"``, ``"float16"`` or
            ``"float32"``, which rounds nothing and takes four bytes a weight.
        progress: called with bytes dealt with and bytes in all.

    Returns:
        The number of base shards that were linked rather than copied.

    Raises:
        ConfigError: there is no such ``dtype``, or it is given where there is no adapter.
        ModelNotFoundError: base or heads were not found.
        CheckpointError: a file is damaged, the base has no safetensors weights or has heads already, or sizes differ.
        MissingDependencyError: the heads have an adapter, and PEFT is not installed.
        RunFolderError: ``output`` exists, or the disk is full.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: found '{dtype}'.{did_you_mean(dtype, DTYPES)}")
    check_new(output)
    found = find_heads(Source.open(heads, heads_revision))
    found.checked_tensors()
    found.config.check_merged(found.label)
    adapter = find_adapter(found)
    if adapter is None and dtype != "auto":
        raise ConfigError(
            f"dtype {dtype} is for weights that a LoRA adapter is added to, and {found.label} has none beside it: the "
            f"base's weights stay as they are. Leave it out; engines have a setting of their own for the precision."
        )
    if base is None:
        name, base_revision = recorded_base(found), base_revision or found.config.base_model_revision
    else:
        name = str(base)
    files = open_base(name, base_revision)
    warn_of_other_base(found, name)
    config = dataclasses.replace(
        found.config, base_model_name_or_path=name, base_model_revision=base_revision, autodeco_version=__version__
    )
    if adapter is None:
        return write_merged(files, found, config, Path(output), link=link, progress=progress)
    require_peft()  # before weights are loaded
    files.check_fits(config, found.label)
    with folded_base(files, adapter, near=Path(output), dtype=dtype) as adapted:
        write_merged(adapted, found, config, Path(output), progress=progress)  # linked: scratch is on the same disk
    return 0


def split(
    merged: str | Path,
    output_heads: str | Path,
    output_base: str | Path | None = None,
    *,
    revision: str | None = None,
    link: bool = True,
    progress: Progress | None = None,
) -> None:
    """Takes a merged or released full checkpoint apart.

    Args:
        merged: the checkpoint.
        output_heads: folder to make for the heads, in this project's layout.
        output_base: folder to make for the base model, as it was before merging; with the adapter, if one was added.
        revision: hub revision of the checkpoint.
        link: whether base shards may be hard-linked.
        progress: called with bytes dealt with and bytes in all.

    Raises:
        ModelNotFoundError: the checkpoint was not found.
        CheckpointError: it is damaged, or holds no base weights.
        RunFolderError: an output exists, or the disk is full.
    """
    for output in (output_heads, output_base):
        if output is not None:
            check_new(output)
    source = Source.open(merged, revision)
    found = find_heads(source if output_base is None else source.fetched(weights=True))
    if output_base is not None:
        if not found.layout.has_base_weights:
            raise CheckpointError(f"'{source.name}' holds heads only, so there is no base model to take out of it.")
        write_base(BaseFiles.open(found.source, found.layout), Path(output_base), link=link, progress=progress)
    write_heads(found, Path(output_heads))


def open_base(name: str, revision: str | None = None, *, weights: bool = True) -> BaseFiles:
    """Finds (and, from a hub, fetches) a plain base model.

    Raises:
        ModelNotFoundError: it was not found.
        CheckpointError: it has heads already.
    """
    source = Source.open(name, revision).fetched(weights=weights)
    layout = detect_layout(source)
    if layout is not Layout.BASE:
        raise CheckpointError(
            f"'{name}' is no plain base model: it has decoding heads already (layout '{layout}'). Give the base model "
            f"itself; 'autodeco split' takes one out of a merged checkpoint."
        )
    return BaseFiles.open(source, layout)


def write_heads(found: StoredHeads, output: Path) -> None:
    """Writes stored heads, bit for bit, in this project's layout; raises as :func:`split` does."""
    found.checked_tensors()
    config = dataclasses.replace(
        found.config, base_model_name_or_path=found.base_name_from(output), autodeco_version=__version__
    )
    with new_folder(output) as folder:
        write_shard(folder / HEADS_FILE, found.stored)
        write_config_and_card(config, folder)


def write_merged(
    base: BaseFiles,
    heads: StoredHeads,
    config: AutoDecoConfig,
    output: Path,
    *,
    link: bool = True,
    progress: Progress | None = None,
) -> int:
    """Writes a merged checkpoint of parts that were found; see :func:`merge`."""
    config.check_merged(heads.label)
    base.check_fits(config, heads.label)
    section = config
    if config.adapter_sha256 is not None:
        section = dataclasses.replace(
            config, base_model_name_or_path=None, base_model_revision=None, adapter_sha256=None
        )
    shards = base.shards()
    with new_folder(output) as folder:
        write_shard(folder / HEADS_FILE, heads.stored)
        write_index(folder, {**{shard.name: shard.tensors for shard in shards}, HEADS_FILE: heads.stored})
        values = {**base.config, "architectures": [f"AutoDeco{base.architecture}"], SECTION: section.to_dict()}
        _write(folder / CONFIG, auto_class.with_auto_class(values))
        (folder / auto_class.FILE).write_text(auto_class.SOURCE, encoding="utf-8")
        _write(folder / GENERATION_CONFIG, neutral_generation_values(base))
        if base.generation_config is not None:
            _write(folder / BASE_GENERATION_CONFIG, base.generation_config)
        (folder / "README.md").write_text(merged_card(config), encoding="utf-8")
        base.copy_small_files(folder)
        return place_shards(shards, folder, counted(progress, sum(shard.nbytes for shard in shards)), link=link)


def write_base(base: BaseFiles, output: Path, *, link: bool = True, progress: Progress | None = None) -> None:
    """Writes a base model as a plain Transformers folder; raises as :func:`split` does."""
    shards = base.shards()
    with new_folder(output) as folder:
        if [shard.name for shard in shards] != [SINGLE_FILE]:
            write_index(folder, {shard.name: shard.tensors for shard in shards})
        _write(folder / CONFIG, base.config)
        if base.generation_config is not None:
            _write(folder / GENERATION_CONFIG, base.generation_config)
        base.copy_small_files(folder)
        place_shards(shards, folder, counted(progress, sum(shard.nbytes for shard in shards)), link=link)


def write_index(folder: Path, files: Mapping[str, Mapping[str, StoredTensor]]) -> None:
    """Writes ``model.safetensors.index.json`` for files and the tensors in each."""
    stored = [tensor for tensors in files.values() for tensor in tensors.values()]
    metadata = {"total_size": sum(tensor.nbytes for tensor in stored)}
    weight_map = {name: file for file, tensors in files.items() for name in tensors}
    _write(folder / INDEX_FILE, {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))})


def neutral_generation_values(base: BaseFiles) -> dict[str, Any]:
    """Generation settings that sample from the model's distribution as it is, with the base's special tokens."""
    from transformers import GenerationConfig

    from autodeco.generation import neutral_generation_config

    values = base.generation_config
    if values is not None:
        config = GenerationConfig.from_dict(values)
    else:
        config = GenerationConfig.from_model_config(transformers_config(base.config, base.source.label(CONFIG)))
    neutral = neutral_generation_config(config).to_diff_dict()
    neutral.pop("_from_model_config", None)
    # Spelled out, though Transformers would leave defaults away: engines have other defaults.
    return {**neutral, "do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}


def counted(progress: Progress | None, total: int) -> Advance | None:
    """Turns a progress callback into one that is told the size of each piece."""
    if progress is None:
        return None
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return advance


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(to_json(values), encoding="utf-8")
