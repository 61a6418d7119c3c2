"""The heads of a checkpoint in any layout: found, checked, loaded; and written as an adapter folder of a few MB."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from autodeco.checkpoint.layout import (
    ADAPTER_CONFIG,
    ADAPTER_FILE,
    CONFIG,
    HEAD_TENSOR,
    HEADS_CONFIG,
    HEADS_FILE,
    SECTION,
    Layout,
    detect_layout,
    stored_tensors,
    tensor_files,
)
from autodeco.checkpoint.model_card import heads_card
from autodeco.checkpoint.released import config_from_released
from autodeco.checkpoint.shards import StoredTensor, read_header
from autodeco.checkpoint.source import Source, read_json, to_json
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError
from autodeco.files import atomic_write_bytes, atomic_write_text
from autodeco.heads import DecodingHeads
from autodeco.version import __version__

if TYPE_CHECKING:
    from autodeco.checkpoint.adapter import SavedAdapter


@dataclass(frozen=True)
class StoredHeads:
    """The heads as they lie in a checkpoint: nothing converted, nothing checked but the configuration.

    Attributes:
        source: the checkpoint.
        layout: its layout.
        config: shape of the heads, base model as recorded.
        stored: where each head tensor lies.
        label: the file or files of the tensors, for errors.
    """

    source: Source
    layout: Layout
    config: AutoDecoConfig
    stored: dict[str, StoredTensor]
    label: str

    def tensors(self) -> dict[str, Tensor]:
        """The tensors in the dtype they were stored in.

        Raises:
            CheckpointError: a file cannot be read.
        """
        tensors: dict[str, Tensor] = {}
        try:
            for path in {tensor.path for tensor in self.stored.values()}:
                with safe_open(path, framework="pt") as file:
                    tensors |= {name: file.get_tensor(name) for name, at in self.stored.items() if at.path == path}
        except SafetensorError as error:
            raise CheckpointError(f"{self.label} cannot be read: {error}. Get the file again.") from error
        return tensors

    def checked_tensors(self) -> dict[str, Tensor]:
        """Like :meth:`tensors`, after checking names, shapes and values against the configuration.

        Raises:
            CheckpointError: a tensor is missing, superfluous, of another shape, or holds NaN or infinity.
        """
        tensors = self.tensors()
        problems = head_problems(self.config, tensors)
        if problems:
            raise CheckpointError(f"{self.label}: {'; '.join(problems)}.")
        return tensors

    @property
    def base_name(self) -> str | None:
        """The recorded base model; a path relative to the checkpoint's folder is made absolute."""
        recorded = self.config.base_model_name_or_path
        if recorded is None or self.source.folder is None:
            return recorded
        beside = self.source.folder / recorded
        return os.path.normpath(beside.absolute()) if beside.is_dir() else recorded

    def base_name_from(self, folder: Path) -> str | None:
        """The recorded base model as a checkpoint in another folder should record it."""
        recorded, resolved = self.config.base_model_name_or_path, self.base_name
        if recorded is None or resolved == recorded or resolved is None:
            return recorded
        same = os.path.normpath(folder.absolute() / recorded) == resolved
        return recorded if same else resolved


def save_heads(heads: DecodingHeads, folder: str | Path, adapter: SavedAdapter | None = None) -> None:
    """Writes heads in this project's layout: configuration, safetensors, model card; PEFT's two files of an adapter.

    Each file is replaced atomically; tensors are kept in the dtype they have (float32 after loading or training).

    Args:
        heads: the heads.
        folder: made if need be; other files in it are left alone.
        adapter: the one that the heads were trained with, if any.

    Raises:
        CheckpointError: a weight is NaN or infinite, or heads that were trained with an adapter come without it: what
            is in the folder is left as it is.
        RunFolderError: the disk is full, or the folder cannot be written.
    """
    folder = Path(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in heads.state_dict().items()}
    problems = head_problems(heads.config, tensors)
    if problems:
        raise CheckpointError(f"{folder / HEADS_FILE} was not written: {'; '.join(problems)}.")
    if adapter is None and heads.config.adapter_sha256 is not None:
        raise CheckpointError(
            f"{folder / HEADS_FILE} was not written: these heads were trained together with a LoRA adapter, which is "
            f"not on the model any more, and mean nothing without it. 'autodeco merge' makes one model of base, "
            f"adapter and heads."
        )
    digest = None if adapter is None else adapter.sha256
    config = dataclasses.replace(heads.config, adapter_sha256=digest, autodeco_version=__version__)
    if adapter is not None:
        atomic_write_bytes(folder / ADAPTER_FILE, adapter.weights)
        atomic_write_bytes(folder / ADAPTER_CONFIG, adapter.config)
    atomic_write_bytes(folder / HEADS_FILE, to_safetensors(tensors, metadata={"format": "pt"}))
    write_config_and_card(config, folder)


def write_config_and_card(config: AutoDecoConfig, folder: Path) -> None:
    """Writes the two text files of the heads' layout."""
    atomic_write_text(folder / HEADS_CONFIG, to_json(config.to_dict()))
    atomic_write_text(folder / "README.md", heads_card(config))


def load_heads(path_or_id: str | Path, revision: str | None = None) -> DecodingHeads:
    """Loads only the heads, from a checkpoint in any of the four layouts.

    Args:
        path_or_id: local folder or hub id; of a large hub repository only the file with the heads is fetched.
        revision: hub revision.

    Returns:
        The heads in float32. A base model recorded relative to the folder is an absolute path in their configuration.

    Raises:
        ModelNotFoundError: nothing was found.
        CheckpointError: a file is missing or damaged, or tensors and configuration disagree.
    """
    return build_heads(find_heads(Source.open(path_or_id, revision)))


def build_heads(found: StoredHeads) -> DecodingHeads:
    """Loads what :func:`find_heads` found, in float32; raises as :func:`load_heads` does."""
    tensors = found.checked_tensors()
    with torch.device("meta"):  # no random initial values that could be mistaken for loaded ones
        heads = DecodingHeads(dataclasses.replace(found.config, base_model_name_or_path=found.base_name))
    heads.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return heads.requires_grad_(True)


def find_heads(source: Source) -> StoredHeads:
    """Finds the heads of a checkpoint and reads their configuration; raises as :func:`load_heads` does."""
    layout = detect_layout(source)
    if layout is Layout.BASE:
        raise CheckpointError(
            f"'{source.name}' is a plain model without decoding heads ({CONFIG} has no '{SECTION}' section). To put "
            f"new heads on it: AutoDecoForCausalLM.from_base({source.name!r}), or 'autodeco train'."
        )
    if layout is Layout.HEADS:
        stored = read_header(source.need(HEADS_FILE))
        config = AutoDecoConfig.from_dict(_read(source, HEADS_CONFIG), source.label(HEADS_CONFIG))
        return StoredHeads(source, layout, config, stored, source.label(HEADS_FILE))
    files = tensor_files(source)
    if layout.has_base_weights:
        files = {name: file for name, file in files.items() if HEAD_TENSOR.match(name)}
    stored = stored_tensors(source, files)
    label = ", ".join(source.label(name) for name in sorted(set(files.values()))) or source.label(CONFIG)
    values = _read(source, CONFIG)
    if layout is Layout.MERGED:
        section = values[SECTION]
        if not isinstance(section, dict):
            raise CheckpointError(f"{source.label(CONFIG)}: '{SECTION}' must be an object, found {section!r}.")
        config = AutoDecoConfig.from_dict(section, f"{source.label(CONFIG)}, section '{SECTION}'")
    else:
        config = config_from_released(values, stored, source.label(CONFIG))
    return StoredHeads(source, layout, config, stored, label)


def head_problems(config: AutoDecoConfig, tensors: dict[str, Tensor]) -> list[str]:
    """What is wrong with head tensors, as clauses of a sentence; empty if they are right."""
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in DecodingHeads(config).state_dict().items()}
    problems = []
    missing, superfluous = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing:
        problems.append(f"{len(missing)} head tensors are missing ({', '.join(missing)})")
    if (
        config.prompt_summary
        and any(name.endswith("prompt.query") for name in tensors)
        and any(name.endswith("prompt.read") for name in missing)
    ):
        problems.append("they see the prompt in a way that only earlier versions know: train them again")
    if superfluous:
        problems.append(f"{len(superfluous)} tensors do not belong to these heads ({', '.join(superfluous[:8])})")
    for name in sorted(expected.keys() & tensors.keys()):
        tensor = tensors[name]
        if tuple(tensor.shape) != expected[name]:
            problems.append(f"'{name}' has shape {list(tensor.shape)}, and the config needs {list(expected[name])}")
        elif not tensor.is_floating_point():
            problems.append(f"'{name}' is of type {tensor.dtype}, and a floating-point type is needed")
        elif bad := int((~tensor.float().isfinite()).sum()):
            problems.append(f"'{name}' has {bad} values that are NaN or infinite (of {tensor.numel()})")
    return problems


def _read(source: Source, filename: str) -> dict[str, Any]:
    return read_json(source.need(filename))
