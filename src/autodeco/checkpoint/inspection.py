"""What is in a checkpoint: layout, base model, sizes, and the health of each head tensor."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from autodeco.checkpoint.adapter_files import find_adapter
from autodeco.checkpoint.heads import StoredHeads, find_heads, head_problems
from autodeco.checkpoint.layout import (
    CONFIG,
    HEAD_TENSOR,
    INDEX_FILE,
    Layout,
    detect_layout,
    stored_tensors,
    tensor_files,
)
from autodeco.checkpoint.released import base_config
from autodeco.checkpoint.shards import StoredTensor
from autodeco.checkpoint.source import Source, read_json
from autodeco.config import AutoDecoConfig
from autodeco.errors import CheckpointError


@dataclass(frozen=True)
class TensorSummary:
    """One head tensor.

    Attributes:
        name: its name.
        shape: its shape.
        dtype: safetensors' name of its dtype.
        nbytes: its size on disk.
        non_finite: how many values are NaN or infinite.
        mean: mean of the finite values.
        absmax: largest absolute finite value.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    non_finite: int
    mean: float
    absmax: float


@dataclass(frozen=True)
class AdapterSummary:
    """A LoRA adapter beside the heads.

    Attributes:
        rank: of each layer's change.
        alpha: its scale is ``alpha / rank``.
        targets: last parts of the adapted layers' names.
        parameters: number of its weights.
        nbytes: their size on disk.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    parameters: int
    nbytes: int


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found.

    Attributes:
        name: what was inspected.
        layout: its layout; ``"base"`` for a plain model without heads.
        architecture: the base model's ``model_type``, if the checkpoint says it.
        base_model: the base model as recorded.
        config: the heads' configuration.
        tensors: the head tensors.
        adapter: the one beside them that they were trained with, if any, and if it is sound.
        base_parameters: number of base weights in the checkpoint.
        base_bytes: their size.
        base_dtypes: bytes of each dtype among them; empty for weights that are on a hub only.
        problems: what keeps heads and adapter from being loaded; empty if nothing does.
    """

    name: str
    layout: str
    architecture: str | None = None
    base_model: str | None = None
    config: AutoDecoConfig | None = None
    tensors: tuple[TensorSummary, ...] = ()
    adapter: AdapterSummary | None = None
    base_parameters: int | None = None
    base_bytes: int | None = None
    base_dtypes: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def head_parameters(self) -> int:
        """Number of head parameters."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def head_bytes(self) -> int:
        """Size of the head tensors on disk."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        values = dataclasses.asdict(self)
        values |= {"head_parameters": self.head_parameters, "head_bytes": self.head_bytes}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain


def inspect(path_or_id: str | Path, revision: str | None = None) -> Inspection:
    """Looks into a checkpoint of any layout; only head tensors are read, base weights by their headers.

    Heads with wrong shapes or NaN, and a missing or damaged adapter, are reported in ``problems`` rather than raised,
    so that the rest can be looked at.

    Raises:
        ModelNotFoundError: nothing was found.
        CheckpointError: a file is missing, or so damaged that nothing can be said about it.
    """
    source = Source.open(path_or_id, revision)
    layout = detect_layout(source)
    architecture = None
    if layout is not Layout.HEADS:
        values = read_json(source.need(CONFIG))
        if layout in (Layout.RELEASED_HEADS, Layout.RELEASED_FULL):
            values = base_config(values, source.label(CONFIG))
        architecture = values.get("model_type")
    found = Inspection(source.name, str(layout), architecture, **_base_sizes(source, layout))
    if layout is Layout.BASE:
        return found
    heads = find_heads(source)
    tensors = heads.tensors()
    adapter, problems = _adapter(heads)
    return dataclasses.replace(
        found,
        base_model=heads.base_name,
        config=heads.config,
        tensors=tuple(_summary(heads.stored[name], tensors[name]) for name in sorted(tensors)),
        adapter=adapter,
        problems=(*head_problems(heads.config, tensors), *problems),
    )


def _adapter(heads: StoredHeads) -> tuple[AdapterSummary | None, list[str]]:
    """The adapter beside the heads, and what is wrong with it."""
    try:
        stored = find_adapter(heads)
        if stored is None:
            return None, []
        stored.tensors()
    except CheckpointError as error:
        return None, [str(error)]
    tensors, targets = stored.stored.values(), stored.config["target_modules"]
    names = [targets] if isinstance(targets, str) else targets  # a string is a pattern
    summary = AdapterSummary(
        rank=stored.config["r"],
        alpha=stored.config["lora_alpha"],
        targets=tuple(sorted({name.rpartition(".")[2] for name in names})),
        parameters=sum(tensor.numel for tensor in tensors),
        nbytes=sum(tensor.nbytes for tensor in tensors),
    )
    return summary, []


def _base_sizes(source: Source, layout: Layout) -> dict[str, Any]:
    """Number, bytes and dtypes of the base weights; of a hub repository only what its index says."""
    if not layout.has_base_weights:
        return {}
    index = source.find(INDEX_FILE)
    if source.folder is None and index is not None:
        metadata = read_json(index).get("metadata") or {}
        return {"base_parameters": metadata.get("total_parameters"), "base_bytes": metadata.get("total_size")}
    files = {name: file for name, file in tensor_files(source).items() if not HEAD_TENSOR.match(name)}
    stored = stored_tensors(source, files).values()
    dtypes: dict[str, int] = {}
    for tensor in stored:
        dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + tensor.nbytes
    return {
        "base_parameters": sum(tensor.numel for tensor in stored),
        "base_bytes": sum(tensor.nbytes for tensor in stored),
        "base_dtypes": dtypes,
    }


def _summary(stored: StoredTensor, tensor: Tensor) -> TensorSummary:
    values = tensor.double()
    finite = values[values.isfinite()]
    return TensorSummary(
        name=stored.name,
        shape=stored.shape,
        dtype=stored.dtype,
        nbytes=stored.nbytes,
        non_finite=values.numel() - finite.numel(),
        mean=finite.mean().item() if finite.numel() else 0.0,
        absmax=finite.abs().max().item() if finite.numel() else 0.0,
    )
